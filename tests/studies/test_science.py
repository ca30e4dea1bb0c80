"""Nobody changes what runs compute without saying so: a few short runs give the recorded figures.

If a change of results is meant, raise `SCIENCE` in foresight/studies/provenance.py by one, so that studies run their
cells anew, and put what the failing test prints into science.json.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foresight.studies.bench.bench import Candidate
from foresight.studies.bench.splits import splits
from foresight.studies.compare.part import Tuned
from foresight.studies.compare.plan import Plan
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.compare.trial import run_cell
from foresight.studies.provenance import SCIENCE, cell_key
from support.planted_corpus import runs

RECORDED = Path(__file__).with_name("science.json")
TOLERANCE = 1e-3
"""Relative, and absolute; machines differ by less, and a change of what is computed makes more."""

SETTINGS = replace(
    CompareConfig().quick(),
    arms=["full", "static", "foresight", "weights_static", "lora"],
    history_tasks=[],
    retained_tasks=["reverse"],
    steps=6,
    remask_every=2,
    probe_every=1,
    evaluations=3,
    eval_examples=10,
)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, float]:
    """What one run of each arm and one forecaster measure now."""
    plan, folder, figures = Plan(SETTINGS), tmp_path_factory.mktemp("runs"), {}
    for arm in plan.arms.values():
        for budget in plan.budgets(arm):
            plan.tuned[arm.name, budget] = Tuned(5e-3, "restarts", {}, False)
    for stage, names in (("tune", ["full"]), ("score", plan.arms)):
        for name in names:
            arm, goal = plan.arms[name], plan.goals(stage)[0]
            cell = plan._tuned_cell(stage, arm, plan.budgets(arm)[0], goal)
            place = folder / cell_key(cell)
            place.mkdir()
            measures = run_cell(cell, place)
            own = {"log loss area": measures.log_loss_area, "last loss": measures.loss[cell.task],
                   "trained": measures.trainable, "touched": measures.touched, "overlap": measures.overlap}  # fmt: skip
            if measures.forecast is not None:
                forecast = measures.forecast
                own |= {"log forecast": float(np.log(np.mean(forecast.scores))), "made at": forecast.made_at}
            figures |= {f"{stage} {name}: {key}": value for key, value in own.items() if value is not None}
    rows = list(Candidate("ridge").ask(splits(runs("relay", tasks=3), "task")[0]))
    return figures | {f"ridge: {key}": sum(row[key] for row in rows) / len(rows) for key in ("precision", "error")}


def test_runs_give_the_figures_recorded_for_this_version(found):
    recorded = json.loads(RECORDED.read_text())
    now = json.dumps({"science": SCIENCE, "figures": found}, indent=1)
    assert recorded["science"] == SCIENCE, f"SCIENCE was raised: write this into {RECORDED.name}\n{now}"
    same = recorded["figures"].keys() == found.keys() and found == pytest.approx(
        recorded["figures"], TOLERANCE, TOLERANCE
    )
    assert same, (
        "what a run computes has changed. If that is meant, raise SCIENCE in foresight/studies/provenance.py and "
        f"write this into {RECORDED.name}, with its new version:\n{now}"
    )
