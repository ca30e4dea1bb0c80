"""What runs a comparison consists of, what each may know, and in which order they come."""

from dataclasses import replace

import pytest

from foresight.studies.compare.arms import ARMS
from foresight.studies.compare.plan import ALL, Plan
from foresight.studies.compare.results import Cell, Measures, Record
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.provenance import cell_key, digest, environment

EVERY = CompareConfig(
    target_tasks=["gender", "ioi"],
    arms=list(ARMS),
    budgets=[0.1, 0.05],
    memories={"kept": {}, "restarts": {"restart_every": 20}},
    retained_tasks=["reverse"],
)


class PlannedRunner:
    """Answers every cell at once: the best rate is .0015, and the cells that `fails` picks end with an error."""

    def __init__(self, fails=lambda cell: False):
        self.fails, self.stages = fails, []

    def run(self, cells, stage=""):
        self.stages.append(list(cells))
        return [self._record(cell) for cell in self.stages[-1]]

    def _record(self, cell: Cell) -> Record:
        key = cell_key(cell)
        if self.fails(cell):
            return Record(key, cell, environment(), error="NonFiniteError: diverged")
        area = 100 * abs(cell.learning_rate - 1.5e-3) + (cell.memory == "kept")
        return Record(key, cell, environment(), Measures({cell.task: 0.5}, log_loss_area=area))


@pytest.fixture(scope="module")
def planned():
    plan, runner = Plan(EVERY), PlannedRunner()
    return plan, runner, plan.carry_out(runner)


def cells(planned, stage=None, arm=None):
    return [r.cell for r in planned[2] if stage in (None, r.cell.stage) and arm in (None, r.cell.arm)]


def test_the_plan_runs_every_cell_once(planned):
    plan, _, records = planned
    assert len({record.key for record in records}) == len(records) == plan.total


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_gets_the_same_tuning_and_the_same_goals(planned, name):
    arm, budgets = ARMS[name], [ALL] if ARMS[name].trains_everything else EVERY.budgets
    tuned = [(c.budget, c.learning_rate, c.memory, c.task) for c in cells(planned, "tune", name)]
    assert sorted(tuned) == sorted(
        (b, rate, memory, "boolean") for b in budgets for rate in EVERY.learning_rates for memory in EVERY.memories
    )
    scored = [(c.budget, c.task, c.seed, c.draw) for c in cells(planned, "score", name)]
    assert sorted(scored) == sorted(
        (b, task, seed, draw)
        for b in budgets for task in EVERY.target_tasks for seed in (1, 2) for draw in range(arm.draws)
    )  # fmt: skip
    assert {(c.learning_rate, c.memory) for c in cells(planned, "score", name)} == {(1.5e-3, "restarts")}


def test_arms_differ_by_their_own_settings_alone(planned):
    """The same steps, data, cadence and restarts, also where the mask never changes, and for adapters."""
    scored = [c for c in cells(planned, "score") if c.budget in (0.1, ALL)]
    for method in {cell.method for cell in scored}:
        values: dict[str, list] = {}
        for cell in (c for c in scored if c.method == method):
            for name, value in cell.training.items():
                if name not in {*ARMS[cell.arm].settings, "budget", "policy_params"}:
                    values.setdefault(name, []).append(value)
        assert all(found == found[:1] * len(found) for found in values.values())
        assert set(values["restart_every"]) == {20} and len(values["max_steps"]) == len(values["restart_every"])
    assert {c.data["train_examples"] for c in scored} == {EVERY.train_examples} and {c.seed for c in scored} == {1, 2}


def test_nothing_of_a_scored_task_is_learned_from(planned):
    """History is full runs of unscored tasks, and a tuning run never learns from its own task."""
    known = {record.key: record.cell for record in planned[2]}
    for cell in cells(planned):
        sources = [known[key] for key in cell.history]
        assert bool(sources) == (cell.arm in ARMS and ARMS[cell.arm].learns)
        assert not {source.task for source in sources} & {*EVERY.target_tasks, cell.task}
        assert all(source.arm == "full" and source.stage in ("tune", "track") for source in sources)


def test_hindsight_sees_its_own_task_and_data_order_and_nobody_else_does(planned):
    known = {record.key: record.cell for record in planned[2]}
    for cell in cells(planned):
        for role, key in cell.sources.items():
            source = known[key]
            assert (source.task, source.seed, source.model) == (cell.task, cell.seed, cell.model)
            assert source.arm == {"realised": "full", "touched": "reactive", "oracle": source.arm}[role]
        arm = ARMS.get(cell.arm)
        assert ("oracle" in cell.sources) == (arm is not None and arm.hindsight is not None)
        if "oracle" in cell.sources:
            scorer = known[cell.sources["oracle"]].training.get("scorer")
            assert scorer == ("utility" if arm.hindsight == "utility" else None)


def test_cells_come_after_what_they_need(planned):
    done: set[str] = set()
    for stage in planned[1].stages:
        needed = {key for cell in stage for role, key in cell.sources.items() if role != "realised"}
        needed |= {key for cell in stage for key in cell.history}
        assert needed <= done
        done |= {cell_key(cell) for cell in stage}
        assert {cell.sources["realised"] for cell in stage if "realised" in cell.sources} <= done


def test_a_frontier_scores_every_learning_rate():
    config = replace(EVERY, arms=["full", "static", "random"], primary_arm="random", frontier=True)
    plan, runner = Plan(config), PlannedRunner()
    records = plan.carry_out(runner)
    rates = {r.cell.learning_rate for r in records if r.cell.stage == "score" and r.cell.arm == "static"}
    assert rates == set(config.learning_rates) and len(records) == plan.total


def test_an_arm_may_pin_its_optimizer_memory():
    pinned = {"name": "static, kept", "like": "static", "memory": "kept"}
    plan = Plan(replace(EVERY, arms=["full", "static", pinned], primary_arm="static, kept"))
    records = plan.carry_out(PlannedRunner())
    assert {r.cell.memory for r in records if r.cell.arm == "static, kept"} == {"kept"}
    assert len({r.key for r in records}) == plan.total


def test_an_arm_without_a_working_rate_is_not_scored():
    plan = Plan(replace(EVERY, arms=["full", "prior", "static", "reactive", "touched"], primary_arm="static"))
    records = plan.carry_out(PlannedRunner(lambda cell: cell.stage == "tune" and cell.arm in ("prior", "reactive")))
    scored = {record.cell.arm for record in records if record.cell.stage == "score"}
    assert scored == {"full", "static", "touched"}
    assert all("touched" not in r.cell.sources for r in records)  # those runs will say why they cannot be


def test_without_a_full_run_there_is_nothing_to_compare():
    records = Plan(EVERY).carry_out(PlannedRunner(lambda cell: (cell.stage, cell.arm) == ("tune", "full")))
    assert not any(record.cell.stage == "score" for record in records)


def test_the_key_follows_the_files(tmp_path):
    """Equal settings and another content of a task file are another cell; a renamed copy elsewhere is the same data."""
    path = tmp_path / "task.jsonl"
    keys = []
    for text in ("one", "two", "one"):
        path.write_text(text)
        config = replace(EVERY, arms=["full", "static"], primary_arm="full", target_tasks=[str(path)])
        keys.append(cell_key(Plan(config)._base()[0]))
    assert keys[0] == keys[2] != keys[1]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("x")
    before = digest(folder)
    (folder / ".hidden").write_text("y")
    assert digest(folder) == before
    (folder / "a").rename(folder / "b")
    assert digest(folder) != before
