"""What a run's budget for scoring pays for."""

from __future__ import annotations

import pytest

from foresight.common.errors import ConfigError
from foresight.masks.costs import StepCosts
from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.training.config import ForesightConfig
from foresight.training.scoring_budget import FEWEST, MOST, SHORTEST, cadence
from support.tiny import tiny

ROWS = 32


def planned(tmp_path, steps=1000, scorer="gradient_activation", **settings):
    model = tiny()
    table = component_table(model)
    args = ForesightConfig(str(tmp_path), use_cpu=True, bf16=False, **settings)
    found = cadence(
        args, make_scorer(scorer), StepCosts(model, table, 32), int(0.05 * table.n_vectors) * table.d_model, steps, ROWS
    )
    return found, 1 + steps // found.every


@pytest.mark.parametrize("steps", [400, 1000, 10_000])
@pytest.mark.parametrize("scorer", ["gradient_activation", "attribution"])
@pytest.mark.parametrize("share", [0.02, 0.06, 0.2])
def test_scoring_keeps_to_its_share(tmp_path, steps, scorer, share):
    found, snapshots = planned(tmp_path, steps, scorer, limits={"scoring": share})
    assert FEWEST <= found.first <= MOST and FEWEST <= found.each <= MOST and found.every >= SHORTEST
    assert found.share(snapshots, steps * ROWS) <= share


def test_a_short_run_still_looks_at_something(tmp_path):
    found, _ = planned(tmp_path, steps=5)
    assert found.first == found.each == FEWEST


def test_more_is_scored_where_more_may_be_spent(tmp_path):
    few, many = (planned(tmp_path, 400, limits={"scoring": share})[0] for share in (0.01, 0.3))
    assert few.every > many.every and few.first < many.first


def test_what_is_set_stays(tmp_path):
    found, _ = planned(tmp_path, probe_examples=5, probe_every=3, remask_every=9)
    assert (found.first, found.each, found.every, found.remask_every) == (5, 5, 3, 9)
    assert planned(tmp_path, probe_every=3)[0].remask_every == 6


def test_scores_that_come_along_are_free(tmp_path):
    """Only the first snapshot takes passes."""
    found, _ = planned(tmp_path, steps=200, scorer="step_attribution")
    assert found.every == SHORTEST and found.share(1, 200 * ROWS) < 0.06
    assert found.each == found.first  # where a snapshot comes before enough rows were trained on


def test_bad_input(tmp_path):
    with pytest.raises(ConfigError, match=r"limits has no 'scorin'.*scoring"):
        planned(tmp_path, limits={"scorin": 0.1})
    with pytest.raises(ConfigError, match="expected a number above 0, at most 1"):
        planned(tmp_path, limits={"scoring": 2})
