"""Features and relative scores are free of scale, blind to the future, and in cadences."""

import numpy as np
import pytest

from foresight.forecasters.features import FEATURES, Frame, windows
from foresight.forecasters.relative import canonical_order, from_relative, to_relative
from support.forecasting import IRREGULAR
from support.planted import make_series, random_walk


def frame(values, steps=None):
    return Frame(make_series(values, steps))


def test_relative_scores_invert():
    values = random_walk(50, 3).astype(np.float32)
    values[4] = 0
    logs, level = to_relative(values)
    np.testing.assert_allclose(from_relative(logs[:, 1], level[1]), values[:, 1], rtol=1e-5, atol=1e-6)
    assert from_relative(np.full(50, 1e3), 2.0).max() <= 100 * (1 + 1e-6)


def test_z_is_standardised_at_every_step_and_free_of_scale():
    values = random_walk(100, 6)
    f, scaled = frame(values), frame(values * np.logspace(-9, 9, 6))
    for origin in range(6):
        z = f.at(origin, np.arange(100))[:, FEATURES.index("z")]
        assert abs(z.mean()) < 1e-5 and z.std() == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(scaled.at(origin, np.arange(100)), f.at(origin, np.arange(100)), atol=1e-4)


def test_features_at_an_origin_do_not_depend_on_what_follows():
    values = random_walk(60, 12)
    poisoned = values.copy()
    poisoned[:, 7:] = 1e6 * np.random.default_rng(1).random((60, 5))
    rows = np.arange(60)
    for origin in (0, 1, 3, 6):
        one, two = (frame(v, IRREGULAR).at(origin, rows) for v in (values, poisoned))
        assert one.shape == (60, len(FEATURES)) and np.isfinite(one).all()
        np.testing.assert_array_equal(one, two)


def test_lags_and_slopes_are_in_cadences_at_irregular_steps():
    slope = np.linspace(-1, 1, 60)
    f = frame(random_walk(60, 12), IRREGULAR)
    f.centred, f.unit = (slope[:, None] * IRREGULAR / 10).astype(np.float32), np.ones(12, np.float32)
    features = dict(zip(FEATURES, f.at(11, np.arange(60)).T, strict=True))
    for lag in (1, 2, 4):
        np.testing.assert_allclose(features[f"z - z {lag} cadences ago"], lag * slope, atol=1e-4)
    np.testing.assert_allclose(features["least-squares slope of z over the last 5 snapshots"], slope, atol=1e-5)


def test_training_windows_are_capped_and_join_features_with_later_changes():
    series = make_series(random_walk(500, 30))
    f = Frame(series)
    features, horizons, changes = windows(f, 5000)
    assert len(features) == len(horizons) == len(changes) <= 5000
    assert set(horizons.tolist()) == {1, 2, 4, 8, 16}
    z = {round(float(v), 5): i for i, v in enumerate(f.centred[:, 1] * f.unit[1])}
    first = [i for i in range(len(features)) if features[i, -1] == np.float32(np.log1p(1)) and horizons[i] == 2]
    assert first
    for i in first:
        component = z[round(float(features[i, 0]), 5)]
        change = (f.centred[component, 3] - f.centred[component, 1]) * f.unit[1]
        assert changes[i] == pytest.approx(change, abs=1e-5)


def test_canonical_order_undoes_any_permutation():
    series = make_series(random_walk(50, 2))
    order = np.random.default_rng(0).permutation(50)
    permuted = series.take(order)
    np.testing.assert_array_equal(series.name[canonical_order(series)], permuted.name[canonical_order(permuted)])
