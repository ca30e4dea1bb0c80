"""Training rows are tokenized once a process, and a run on them is the run on the rows as they were."""

from dataclasses import replace

import pytest
from datasets import Dataset

from foresight.studies.compare import rows
from foresight.studies.compare.part import Tuned
from foresight.studies.compare.plan import Plan
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.compare.trial import run_cell


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(rows, "_tokenized", {})


@pytest.fixture(scope="module")
def cells():
    """Arm -> its cell on the first goal."""
    config = replace(CompareConfig().quick(), arms=["random", "lora"], primary_arm="random", primary_against=["lora"])
    plan = Plan(config)
    plan.tuned = {(name, config.budgets[0]): Tuned(1.5e-3, "restarts", {}, False) for name in ("random", "lora")}
    plan.tuned["full", 1.0] = Tuned(1.5e-3, "restarts", {}, False)
    goal = plan.goals("score")[0]
    return {name: plan._tuned_cell("score", plan.arms[name], config.budgets[0], goal) for name in ("random", "lora")}


def of_one_run(cell, folder):
    folder.mkdir()
    found = run_cell(cell, folder)
    return found.curve, found.loss


@pytest.mark.parametrize("arm", ["random", "lora"])
def test_a_run_on_kept_rows_is_the_run_on_raw_ones(cells, tmp_path, arm):
    raw = of_one_run(cells[arm], tmp_path / "raw")
    rows._tokenized.clear()
    of_one_run(cells["random"], tmp_path / "keeps them")
    assert "input_ids" in rows.train_rows(cells[arm]).column_names
    assert of_one_run(cells[arm], tmp_path / "kept") == raw


def test_only_cells_of_the_same_data_and_settings_share_rows(cells):
    cell = cells["random"]
    kept = Dataset.from_dict({"input_ids": [[1]]})
    rows.keep(cell, kept)
    assert rows.train_rows(replace(cell, arm="other", learning_rate=1.0, budget=0.5)) is kept
    others = [
        replace(cell, seed=cell.seed + 1),
        replace(cell, task="ioi"),
        replace(cell, inputs={"a file": "changed"}),
        replace(cell, data=cell.data | {"train_examples": 8}),
        replace(cell, training=cell.training | {"max_length": 8}),
        replace(cell, training=cell.training | {"completion_only_loss": False}),
    ]
    for other in others:
        assert "prompt" in rows.train_rows(other).column_names and rows.train_rows(other) is not kept


def test_the_oldest_rows_are_forgotten(cells):
    for seed in range(rows.KEPT + 3):
        rows.keep(replace(cells["random"], seed=seed), Dataset.from_dict({"input_ids": [[seed]]}))
    assert len(rows._tokenized) == rows.KEPT
    assert rows.train_rows(replace(cells["random"], seed=3))["input_ids"][0] == [3]
    assert "input_ids" not in rows.train_rows(replace(cells["random"], seed=2)).column_names
