"""The value of a mask: a rule that outcomes follow is found and used, noise is not; the file gives back what it got."""

import json

import numpy as np
import pytest
from foresight.policies.targets.mask_value import FEATURES, MaskValue, features
from foresight.policies.targets.outcomes import Outcome, read_outcomes, write_outcomes
from foresight.policies.value import candidates

from foresight.common.errors import ConfigError
from foresight.masks.masks import Mask
from foresight.masks.selection import head_share_of, select
from foresight.policies import View, make_policy
from support.planted import make_table, series_of

TABLE = make_table(layers=4, heads=4, blocks=4)
BUDGET = 24


def before(seed=0):
    return series_of(TABLE, np.exp(np.random.default_rng(seed).normal(size=(len(TABLE), 1))))


def view(seed=0, **changes):
    return View(
        **{**dict(table=TABLE, n_vectors=BUDGET, step=0, total_steps=100, series=before(seed), seed=seed), **changes}
    )


def shipped(series):
    return make_policy("prior").scores(series)


def simulated(rule, seed=0, tasks=6, runs=10, noise=0.3):
    """Outcomes of masks of many kinds: rule(features) + the task's difficulty (much larger) + noise."""
    rng, found = np.random.default_rng(seed), []
    for task in range(tasks):
        now = view(int(rng.integers(1e6)))
        masks, difficulty = candidates(now, now.series.values[:, 0], shipped(now.series)), 10 * rng.normal()
        for i in rng.choice(len(masks), runs, replace=False):
            row = dict(zip(FEATURES, features(masks[i], now.series, shipped), strict=True))
            outcome = rule(row) + difficulty + noise * rng.normal()
            found.append(Outcome(f"task{task}", now.series, masks[i], float(outcome)))
    return found


def test_features_are_what_they_are_called():
    heads = Mask.of(np.flatnonzero((TABLE.kind == "head") & (TABLE.layer == 3)))
    now = before()
    row = dict(zip(FEATURES, features(heads, now, shipped), strict=True))
    assert row["head_share"] == row["depth"] == row["lowest_layer"] == 1 and row["depth_spread"] == 0
    assert row["layers"] == 0.25 and 0 < row["static_share"] < 1 and 0 <= row["prior_overlap"] <= 1
    static = select(now.values[:, 0], TABLE, BUDGET)
    row = dict(zip(FEATURES, features(static, now, shipped), strict=True))
    assert row["static_share"] == 1 and row["mean_rank"] > 0.7


@pytest.mark.parametrize(
    ("rule", "wanted"), [(lambda f: -2 * f["head_share"], 1.0), (lambda f: 2 * f["head_share"], 0.0)]
)
def test_a_known_rule_is_found_and_followed(rule, wanted):
    policy = make_policy("value", outcomes=simulated(rule))
    assert policy.value.r2 > 0.5 and policy.value.known
    mask = policy.mask(view(7))
    assert head_share_of(mask, TABLE) == wanted
    assert policy.verdict.opens and policy.verdict.gain > 0.3 and "R^2 on tasks left out 0." in policy.verdict.words
    assert TABLE.vectors[list(mask.components)].sum() > BUDGET - 4


def test_a_rule_that_speaks_for_the_static_mask_keeps_its_scores():
    policy = make_policy("value", outcomes=simulated(lambda f: -3 * f["static_share"]))
    row = dict(zip(FEATURES, features(policy.mask(view(7)), before(7), shipped), strict=True))
    assert policy.value.known and row["static_share"] > 0.9


def test_noise_holds_the_static_mask_and_says_so():
    known = 0
    for seed in range(8):
        policy = make_policy("value", outcomes=simulated(lambda f: 0.0, seed))
        known += policy.value.known
        if not policy.value.known:
            assert policy.mask(view(7)) == make_policy("static").mask(view(7))
            assert not policy.verdict.opens and "holds static: past outcomes do not tell" in policy.verdict.words
    assert known <= 2  # at 5 %, more: 1 %


def test_difficulty_of_a_task_drops_out():
    runs = simulated(lambda f: -2 * f["head_share"])
    shifted = [Outcome(o.group, o.before, o.mask, o.outcome + 1000 * int(o.group[-1])) for o in runs]
    one, other = (MaskValue.learn(rows, shipped) for rows in (runs, shifted))
    assert one.r2 == pytest.approx(other.r2)
    masks = candidates(view(), before().values[:, 0], shipped(before()))
    assert np.allclose(one.predict(masks, before()), other.predict(masks, before()))


def test_a_rule_of_one_task_alone_is_not_believed():
    """Left out, each task contradicts what the others say."""
    signs = {f"task{i}": (-1) ** i for i in range(6)}
    runs = simulated(lambda f: 2 * f["head_share"], noise=0.01)
    means = {group: np.mean([o.outcome for o in runs if o.group == group]) for group in signs}
    flipped = [Outcome(o.group, o.before, o.mask, signs[o.group] * (o.outcome - means[o.group])) for o in runs]
    assert not MaskValue.learn(flipped, shipped).known


def test_equal_outcomes_teach_nothing_and_too_few_are_refused():
    runs = simulated(lambda f: 0.0, noise=0.0, tasks=2, runs=3)
    flat = [Outcome(o.group, o.before, o.mask, 1.0) for o in runs]
    assert not MaskValue.learn(flat, shipped).known
    for few in ([], runs[:3], runs[::3]):
        with pytest.raises(ConfigError, match="at least 2 groups"):
            MaskValue.learn(few, shipped)


def test_candidates_differ_and_keep_the_budget():
    masks = candidates(view(), before().values[:, 0], shipped(before()))
    assert len(masks) == len(set(masks)) > 50 and masks[0] == make_policy("static").mask(view())
    assert masks == candidates(view(), before().values[:, 0], shipped(before()))
    assert all(BUDGET - 3 < TABLE.vectors[list(mask.components)].sum() <= BUDGET for mask in masks)


def test_outcomes_come_back_from_their_file(tmp_path):
    runs = simulated(lambda f: f["depth"], tasks=2, runs=3)
    other = make_table(layers=2)
    runs.append(Outcome("deep", series_of(other, np.ones((len(other), 1))), Mask.of([0, 3]), 0.5))
    write_outcomes(tmp_path / "outcomes.json", runs)
    again = read_outcomes(tmp_path / "outcomes.json")
    assert len(json.loads((tmp_path / "outcomes.json").read_text())["tables"]) == 2
    for one, two in zip(runs, again, strict=True):
        assert (one.group, one.mask, one.outcome) == (two.group, two.mask, two.outcome)
        assert np.array_equal(one.before.values, two.before.values) and np.array_equal(one.before.name, two.before.name)


@pytest.mark.parametrize(
    "change",
    [None, {"version": 2}, {"table": 7}, {"table": -1}, {"mask": ["nope"]}, {"mask": []}, {"scores": [1.0]},
     {"outcome": None}, {"outcome": float("nan")}],
    ids=str,
)  # fmt: skip
def test_a_broken_file_is_refused(tmp_path, change):
    file = tmp_path / "outcomes.json"
    write_outcomes(file, simulated(lambda f: 0.0, tasks=1, runs=2))
    data = json.loads(file.read_text())
    if change is not None:
        (data if "version" in change else data["runs"][0]).update(change)
    file.write_text(json.dumps(data)[: None if change is not None else -9])
    with pytest.raises(ConfigError, match="is no file of outcomes"):
        read_outcomes(file)


def test_without_scores_or_outcomes_it_says_so():
    with pytest.raises(ConfigError, match="policy 'value' needs outcomes"):
        make_policy("value")
    with pytest.raises(ConfigError, match="needs scores at step 0"):
        make_policy("value", outcomes=simulated(lambda f: 0.0, tasks=2, runs=2)).mask(view(series=None))
