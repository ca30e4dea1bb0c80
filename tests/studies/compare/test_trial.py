"""What one run measures, for real on the shipped model: masks, adapters, hindsight and tasks of one's own."""

import json
from dataclasses import replace

import pytest

from foresight.common.files import write_json
from foresight.studies.compare.curve import steps_to
from foresight.studies.compare.part import Tuned
from foresight.studies.compare.plan import ALL, Plan
from foresight.studies.compare.results import CurvePoint, Record, read_record
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.compare.trial import Restart, run_cell
from foresight.studies.ledger import RESULT
from foresight.studies.provenance import cell_key, environment

CONFIG = replace(
    CompareConfig().quick(),
    arms=["full", "static", "reactive", "touched", "oracle_utility", "weights_hindsight", "lora", "circuit_lora"],
    primary_arm="reactive",
    retained_tasks=["reverse"],
    steps=6,
    remask_every=2,
    probe_every=2,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs the tuned cell of an arm on the first goal, with all it needs; each once."""
    plan, folder = Plan(CONFIG), tmp_path_factory.mktemp("runs")
    for arm in plan.arms.values():
        for budget in plan.budgets(arm):
            plan.tuned[arm.name, budget] = Tuned(1.5e-3, "restarts", {}, False)
    goal = plan.goals("score")[0]

    def run(cell):
        path = folder / cell_key(cell)
        if not (path / RESULT).exists():
            path.mkdir()
            record = Record(path.name, cell, environment(), run_cell(cell, path))
            write_json(path / RESULT, record.to_json())
        return read_record(path).measures

    def measured(name):
        run(plan._tuned_cell("score", plan.full, ALL, goal))
        arm = plan.arms[name]
        if arm.hindsight == "utility":
            run(plan._utility_run(goal))
        if arm.sized_by:
            run(plan._tuned_cell("score", plan.arms[arm.sized_by], CONFIG.budgets[0], goal))
        return run(plan._tuned_cell("score", arm, CONFIG.budgets[0], goal))

    return measured


@pytest.mark.parametrize("name", [name for name in CONFIG.chosen if name != "full"])
def test_an_arm_spends_its_budget_and_learns(runs, name):
    found, full = runs(name), runs("full")
    most = CONFIG.budgets[0] * found.model_parameters
    if name == "touched":
        most = runs("reactive").touched
    assert 0 < found.trainable <= most < full.trainable
    assert found.touched >= 0.8 * found.trainable and found.peak_bytes < full.peak_bytes
    assert [point.step for point in found.curve] == [0, 3, 6]
    assert found.curve[0] == full.curve[0]  # the same model on the same held-out rows
    assert found.curve[-1].loss != found.curve[0].loss
    assert found.curve[-1].retained_loss == pytest.approx(found.loss["reverse"])


def test_what_a_tuning_run_forgets_is_not_measured(tmp_path):
    plan = Plan(CONFIG)
    plan.tuned["full", ALL] = plan.tuned["static", CONFIG.budgets[0]] = Tuned(1.5e-3, "restarts", {}, False)
    cell = plan._tuned_cell("tune", plan.arms["static"], CONFIG.budgets[0], plan.goals("tune")[0])
    found = run_cell(cell, tmp_path)
    assert list(found.loss) == list(found.accuracy) == [cell.task] and found.log_loss_area is not None
    assert {(point.retained_loss, point.retained_accuracy) for point in found.curve} == {(None, None)}


def test_the_realised_circuit_is_told_of_full_runs_alone(runs):
    full, static = runs("full"), runs("static")
    assert full.realised and full.overlap == full.chance == 1.0
    assert static.realised is None and 0 <= static.overlap <= 1 and 0 < static.chance < 0.2
    assert runs("lora").overlap is None and runs("weights_hindsight").schedule == ()


def test_a_mask_as_large_as_all_that_another_touched(runs):
    """A reactive run that holds its first mask has touched no more than a static one."""
    assert runs("touched").trainable >= 0.95 * runs("static").trainable
    assert runs("touched").trainable == pytest.approx(runs("reactive").touched, rel=0.05)


def test_a_task_of_the_users_without_pairs(runs, tmp_path):
    rows = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(10) for b in range(10)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = replace(CONFIG, target_tasks=[str(path)], arms=["full", "static"], primary_arm="full", eval_examples=10)
    plan = Plan(config)
    plan.tuned = {
        ("full", ALL): Tuned(1.5e-3, "restarts", {}, False),
        ("static", 0.1): Tuned(1e-3, "restarts", {}, False),
    }
    cells = [plan._tuned_cell("score", plan.arms[name], 0.1, plan.goals("score")[0]) for name in ("full", "static")]
    for cell in cells:
        folder = tmp_path / cell_key(cell)
        folder.mkdir()
        assert run_cell(replace(cell, budget=ALL if cell.arm == "full" else 0.1), folder).curve[-1].loss > 0
        assert cell.inputs[str(path)] == plan.inputs[str(path)]


def test_restarting_forgets_everything_at_its_steps():
    class Optimizer:
        state = {"a": 1}

    class State:
        global_step = 4

    for every, left in ((0, 1), (3, 1), (2, 0)):
        Optimizer.state = {"a": 1}
        Restart(every).on_step_end(None, State, None, optimizer=Optimizer)
        assert len(Optimizer.state) == left


@pytest.mark.parametrize("accuracies, step", [([0.1, 0.5, 0.9], 17.5), ([0.9, 0.1, 0.1], 0.0), ([0.1, 0.2, 0.3], None)])
def test_steps_to_a_target(accuracies, step):
    points = [CurvePoint(10 * i, 1.0, accuracy) for i, accuracy in enumerate(accuracies)]
    assert steps_to(points, 0.8) == (None if step is None else pytest.approx(step))
