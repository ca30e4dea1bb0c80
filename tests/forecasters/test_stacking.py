"""Stacking weighs its members by proven skill, and abstains without any."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone

from foresight.common.errors import CheckpointError
from foresight.forecasters import experienced, make_forecaster
from support.forecasting import LATE_GROWTH_BEFORE, filter_by_share, fitted, late_growth, noisy_level
from support.planted import make_series, random_walk, trends


def test_stacking_weighs_by_past_skill():
    members = ("persistence", "mean", "drift")
    straight = fitted("stacking", trends(200, 16), 12, members=members)
    assert (straight.weights_ >= 0).all() and straight.weights_.sum() == pytest.approx(1)
    assert straight.weights_[2] > 0.9 and straight.weights_[0] == 0
    level = fitted("stacking", noisy_level(0, step=0.0)[1], 12, members=members)
    assert level.weights_[1] > 0.9


def test_stacking_abstains_when_no_member_has_skill():
    values = random_walk(300, 16)
    forecaster = fitted("stacking", values, 12, members=("mean", "drift"))
    assert not forecaster.weights_.any() and "no member" in forecaster.fallback_
    np.testing.assert_array_equal(forecaster.predict(40), values[:, 11].astype(np.float32))


def test_skill_in_past_runs_counts_and_is_measured_on_runs_a_member_has_not_learned_from():
    forecaster = fitted("stacking", late_growth(9), 3, LATE_GROWTH_BEFORE, members=("mean", "ridge"))
    assert forecaster.weights_.tolist() == [0, 1]
    nothing = [random_walk(60, 10, seed) for seed in range(4)]  # where a ridge has skill on what it was taught
    assert not fitted("stacking", random_walk(60, 3, 9), 3, nothing, members=("mean", "ridge")).weights_.any()


def test_wrapped_forecasters_survive_as_state():
    inner = make_forecaster("stacking", members=(make_forecaster("smoothing", alpha=0.5), "ridge"))
    made = make_forecaster("stacking", members=(inner, make_forecaster("ridge", alpha=0.1)))
    made.pretrain([make_series(each) for each in LATE_GROWTH_BEFORE]).fit(make_series(late_growth(9)[:, :6]))
    arrays, data = made.state()
    again = clone(made).load_state(arrays, json.loads(json.dumps(data)))
    np.testing.assert_array_equal(again.predict(60), made.predict(60))
    np.testing.assert_array_equal(again.weights_, made.weights_)
    made.members = (inner, make_forecaster("ridge", alpha=0.2))
    with pytest.raises(CheckpointError, match="same name and parameters"):
        made.load_state(arrays, data)
    with pytest.raises(CheckpointError, match="unknown arrays"):
        again.load_state({**arrays, "pretrained.7.changes": np.zeros(3, np.float32)}, data)


def test_up_to_fifty_snapshots_the_default_forecasts_what_it_did_before_it_was_made_quicker(monkeypatch):
    """Recorded studies stand: bit for bit, by the share-by-share filter and the recursion without a bound."""
    cases = [make_series(noisy_level(seed, n=40, t=t)[1]) for seed, t in enumerate((2, 3, 12, 50))]
    quick = [experienced("stacking").fit(series) for series in cases]
    monkeypatch.setattr("foresight.forecasters.trend.RECENT", 10_000)
    monkeypatch.setattr("foresight.forecasters.local_level._filter", filter_by_share)
    for series, found in zip(cases, quick, strict=True):
        plain = experienced("stacking").fit(series)
        np.testing.assert_array_equal(plain.weights_, found.weights_)
        np.testing.assert_array_equal(plain.predict(60), found.predict(60))
    assert quick[-1].weights_[1] and quick[-1].weights_[2]


def test_standard_errors_change_nothing_in_the_default():
    known = [make_series(noisy_level(seed)[1]) for seed in range(3)]
    errors = np.random.default_rng(0).random(known[0].values.shape)
    sure = [replace(series, stderr=errors) for series in known]
    one, two = (make_forecaster("stacking").pretrain(past).fit(series) for *past, series in (known, sure))
    assert one.weights_[1]
    np.testing.assert_array_equal(two.predict(10), one.predict(10))


def test_members_may_be_forecasters_and_stay_as_they_are():
    member = make_forecaster("smoothing", alpha=0.5)
    values = noisy_level(0, step=0.0)[1]
    one = fitted("stacking", values, 12, members=(member,)).predict(10)
    np.testing.assert_allclose(one, fitted("smoothing", values, 12, alpha=0.5).predict(10), rtol=1e-6)
    assert not hasattr(member, "series_")
