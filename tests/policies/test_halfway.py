"""A task whose useful components change half-way by construction: followed where that can be foreseen, else not."""

import numpy as np
import pytest

from foresight.forecasters import make_forecaster
from foresight.policies.policy import Past, View
from foresight.policies.targets import make_target
from support.planted import make_table, series_of
from support.policies import make_policy

TABLE = make_table(layers=4, heads=4, blocks=4)
STEPS = np.arange(0, 105, 5)
HALF, USEFUL = 50, 6


def task(seed, foreseeable, change=HALF):
    """Scores of a task, and its components that are useful before and after the change.

    Foreseeable: log scores of the later ones rise, those of the earlier ones fall, and cross there. Otherwise they jump
    there, without a sign before.
    """
    rng = np.random.default_rng(seed)
    early, late = np.split(rng.permutation(len(TABLE))[: 2 * USEFUL], 2)
    log = np.repeat(rng.normal(-3, 0.3, (len(TABLE), 1)), len(STEPS), 1)
    way = (STEPS - change) / HALF if foreseeable else np.where(change < STEPS, 1.0, -1.0)
    log[early], log[late] = 1 - way, 1 + way
    return series_of(TABLE, np.exp(log + 0.02 * rng.normal(size=log.shape)), STEPS), set(early), set(late)


def decide(foreseeable, step, target="circuit"):
    """Past tasks change at any time; this one does half-way, and its components are others than theirs."""
    when = np.random.default_rng(1).integers(10, 90, 12)
    history = [Past(task(100 + g, foreseeable, change)[0], f"task{g}") for g, change in enumerate(when)]
    policy = make_policy("foresight", table=TABLE, forecaster=make_forecaster("damped_drift"), history=history,
                         target=make_target(target))  # fmt: skip
    run, early, late = task(0, foreseeable)
    budget = int(TABLE.vectors[list(late)].sum())
    mask = policy.mask(View(TABLE, budget, step, 100, run, horizon=40))
    chosen = set(mask.components)
    return policy, len(chosen & early) / USEFUL, len(chosen & late) / USEFUL


@pytest.mark.parametrize("target", ["circuit", "utility"])
def test_a_change_that_can_be_foreseen_is_followed_before_it_comes(target):
    policy, early, late = decide(True, 40, target)
    assert policy.notes["gate"] == 1 and late >= 0.8 and early <= 0.2
    assert "forecasts" in policy.words


@pytest.mark.parametrize("target", ["circuit", "utility"])
def test_a_change_without_a_sign_is_not(target):
    policy, early, late = decide(False, 40, target)
    assert policy.notes["gate"] == 0 and early >= 0.8 and late <= 0.2
    assert "holds" in policy.words


def test_either_is_followed_once_it_has_come():
    for foreseeable in (True, False):
        _, early, late = decide(foreseeable, 80)
        assert late >= 0.8 and early <= 0.2
