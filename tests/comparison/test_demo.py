"""The demo: its recipe, what each run may know, and one run of the whole in its quick form."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from foresight.comparison.arms import ARMS
from foresight.comparison.demo import RESULTS, RUNS, DemoConfig, Plan, read_demo, run_demo
from foresight.comparison.results import Cell, Measures, Record, environment
from foresight.comparison.runner import RESULT
from foresight.errors import ConfigError, UnknownNameError
from foresight.report import write_report

RECIPE = Path(__file__).parents[2] / "recipes" / "demo.yaml"


class PlannedRunner:
    """Answers every cell at once; a learning rate has a fixed area, and fails for the arms named."""

    def __init__(self, fails=()):
        self.fails, self.stages = fails, []

    def path(self, cell: Cell) -> Path:
        return Path("runs") / cell.key(environment())

    def run(self, cells, stage=""):
        self.stages.append(list(cells))
        return [self._record(cell) for cell in cells]

    def _record(self, cell: Cell) -> Record:
        key = cell.key(environment())
        if (cell.stage, cell.arm) in self.fails:
            return Record(key, cell, environment(), error="NonFiniteError: diverged")
        return Record(
            key, cell, environment(), Measures({cell.task: 0.5}, log_loss_area=100 * abs(cell.learning_rate - 1.5e-3))
        )


@pytest.fixture(scope="module")
def planned():
    plan, runner = Plan(DemoConfig(), ["gender"]), PlannedRunner()
    return plan, runner, plan.carry_out(runner)


def test_the_recipe_is_the_default():
    assert yaml.safe_load(RECIPE.read_text()) == asdict(DemoConfig())


def test_the_plan_runs_every_cell_once(planned):
    plan, _, records = planned
    assert len({record.key for record in records}) == len(records) == plan.total


def test_every_arm_gets_the_same_tuning_and_the_same_goals(planned):
    config, (_, _, records) = DemoConfig(), planned
    for name, arm in ARMS.items():
        tuned = [r.cell for r in records if r.cell.stage == "tune" and r.cell.arm == name]
        assert {cell.learning_rate for cell in tuned} == set(config.learning_rates)
        assert {cell.task for cell in tuned} == set(config.tuning_tasks)
        scored = [r.cell for r in records if r.cell.stage == "score" and r.cell.arm == name]
        goals = [(task, seed, draw) for task in config.target_tasks for seed in (1, 2) for draw in range(arm.draws)]
        assert sorted((cell.task, cell.seed, cell.draw) for cell in scored) == sorted(goals)
        assert {cell.learning_rate for cell in scored} == {1.5e-3}


def test_arms_differ_by_policy_alone(planned):
    """The same budget, steps, data, cadence and restart of moments, also where the mask never changes."""
    _, _, records = planned
    scored = [r.cell for r in records if r.cell.stage == "score"]
    shared = [{k: v for k, v in cell.training.items() if k not in ("policy", "record")} for cell in scored]
    assert all(settings == shared[0] for settings in shared)
    assert shared[0]["moments"] == "restart" and shared[0]["watch_steps"] == shared[0]["remask_every"]
    assert all(cell.data == scored[0].data for cell in scored)


def test_nothing_of_a_scored_task_is_learned_from(planned):
    """History is full runs of unscored tasks, and a tuning run never learns from its own task."""
    config, (_, _, records) = DemoConfig(), planned
    cells = {record.key: record.cell for record in records}
    for record in records:
        sources = [cells[key] for key in record.cell.history]
        if ARMS.get(record.cell.arm, ARMS["full"]).learns:
            assert sources
        else:
            assert not sources
        assert not {source.task for source in sources} & {*config.target_tasks, record.cell.task}
        assert all(source.arm == "full" and source.stage in ("tune", "track") for source in sources)


def test_the_oracle_sees_its_own_task_and_data_order(planned):
    _, _, records = planned
    cells = {record.key: record.cell for record in records}
    for record in records:
        if record.cell.arm in ("base", "full"):
            assert record.cell.reference is None
        else:
            source = cells[record.cell.reference]
            assert (source.arm, source.task, source.seed) == ("full", record.cell.task, record.cell.seed)


def test_cells_come_after_what_they_need(planned):
    _, runner, _ = planned
    done: set[str] = set()
    for stage in runner.stages:
        needed = {key for cell in stage for key in (*cell.history, cell.reference) if key}
        assert needed <= done
        done |= {cell.key(environment()) for cell in stage}


def test_an_arm_without_a_working_rate_is_not_scored():
    records = Plan(DemoConfig(), ["gender"]).carry_out(PlannedRunner(fails=[("tune", "prior")]))
    scored = {record.cell.arm for record in records if record.cell.stage == "score"}
    assert scored == set(ARMS) - {"prior"}


def test_without_a_full_run_there_is_nothing_to_compare():
    records = Plan(DemoConfig(), ["gender"]).carry_out(PlannedRunner(fails=[("tune", "full")]))
    assert not any(record.cell.stage == "score" for record in records)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target_tasks": ["ioi", "boolean"]}, "named twice"),
        ({"target_tasks": []}, "target_tasks is empty"),
        ({"seeds": 0}, "seeds is 0"),
        ({"learning_rates": []}, "learning_rates is empty"),
    ],
)
def test_settings_that_make_no_comparison_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        DemoConfig(**changes)


def test_an_unknown_arm_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'oracle'"):
        DemoConfig(arms=["orakle"])


def test_the_quick_demo_from_start_to_report(tmp_path):
    """Everything for real, on the shipped model; a second call finds it all done and changes nothing."""
    summary = run_demo(tmp_path, DemoConfig().quick())
    assert summary.failures == ()
    assert set(summary.arms) == set(ARMS)
    assert summary.arms["full"].overlap.mean == summary.arms["oracle"].overlap.mean == pytest.approx(1.0)
    assert summary.arms["full"].peak_bytes > 2 * summary.arms["static"].peak_bytes
    assert len({arm.trainable for name, arm in summary.arms.items() if name != "full"}) == 1
    assert summary.arms["static"].scoring_seconds > 0 and summary.arms["random"].scoring_seconds == 0
    data = json.loads((tmp_path / RESULTS).read_text())
    assert data["budget"] == DemoConfig().budget and data["arms"]["foresight"]["target_accuracy"]["low"] is None
    page = write_report(tmp_path).read_text()
    assert summary.verdict.sentence.split(":")[0] in page and page.count("<figure>") >= 5

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / RUNS).glob(f"*/{RESULT}")}
    assert len(before) == Plan(DemoConfig().quick(), []).total
    assert run_demo(tmp_path, DemoConfig().quick()) == summary == read_demo(tmp_path)[1]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / RUNS).glob(f"*/{RESULT}")} == before
