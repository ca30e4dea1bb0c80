"""What the forecasters beyond the simple ones believe, on planted series whose answer is known."""

import json

import numpy as np
import pytest
from sklearn.base import clone

from foresight.common.errors import CheckpointError, ConfigError
from foresight.forecasters import make_forecaster
from foresight.forecasters.conformance.checks import RULES
from foresight.forecasters.damped_drift import DAMPINGS, _follow, _powers
from foresight.forecasters.local_level import SHARES, LocalLevel
from foresight.forecasters.persistence import Persistence
from foresight.forecasters.relative import from_relative, to_relative
from foresight.trajectory.metrics import newcomer_recall, skill
from support.planted import make_series, random_walk, trends

SMALL = {
    "damped_drift": {},
    "local_level": {},
    "elastic_net": {"max_rows": 2000},
    "forest": {"n_estimators": 3, "max_rows": 300},
    "gaussian_process": {"max_rows": 100},
    "recurrent": {"max_iter": 4, "hidden": 3},
    "ranking": {"max_rows": 500},
    "stacking": {"members": ("mean", "ridge")},
    "conformal": {"forecaster": "elastic_net"},
}
LEARNERS = ("elastic_net", "forest", "gaussian_process", "recurrent", "ranking")
FAST = {
    "forest": {"n_estimators": 10, "max_rows": 2000},
    "gaussian_process": {"max_rows": 400},
    "recurrent": {"max_iter": 60, "hidden": 8},
}


def fitted(name, values, seen, past=(), steps=None, **params):
    forecaster = make_forecaster(name, **{**FAST.get(name, {}), **params})
    if past:
        forecaster.pretrain([make_series(each) for each in past])
    return forecaster.fit(make_series(values[:, :seen], None if steps is None else steps[:seen]))


def skill_of(name, values, seen, past=(), **params):
    """Skill at the end of `values`, forecast from its first `seen` snapshots (10 steps apart)."""
    prediction = fitted(name, values, seen, past, **params).predict(10 * (values.shape[1] - seen))
    return skill(prediction, values[:, -1], values[:, seen - 1])


def noisy_level(seed, n=200, t=20, step=0.1, noise=0.4):
    """Levels (log) that wander, and what is seen of them."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 1, (n, 1)) + np.cumsum(rng.normal(0, step, (n, t)), 1)
    return level, np.exp(level + rng.normal(0, noise, (n, t)))


def bending(seed, damping=0.8, n=200, t=16, steps=None, noise=0.002):
    """Scores whose logs follow damped trends, at a mean score of 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(t) if steps is None else np.asarray(steps) / 10
    values = np.exp(rng.normal(0, 0.5, (n, 1)) + rng.normal(0, 1, (n, 1)) * (1 - damping**time))
    return values * np.exp(rng.normal(0, noise, values.shape)) / values.mean(0)


def late_growth(seed, n=200):
    """Heads grow and MLP blocks shrink, after the third snapshot only: three snapshots do not show it."""
    rng = np.random.default_rng(seed)
    sign = np.where(np.arange(n) % 3 == 0, 1.0, -1.0)[:, None]
    late = np.maximum(0, np.arange(12) - 2)
    return np.exp(rng.normal(0, 0.5, (n, 1)) + 0.1 * sign * late + rng.normal(0, 0.02, (n, 12)))


PAST = [late_growth(seed, n) for seed, n in ((1, 150), (2, 90), (3, 210), (4, 120))]


# The contract


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "growth"])
@pytest.mark.parametrize("name", SMALL)
def test_the_zoo_keeps_the_contract(name, rule):
    RULES[rule](make_forecaster(name, **SMALL[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_time_and_memory_grow_with_the_size(name):
    RULES["growth"](make_forecaster(name, **SMALL[name]))


@pytest.mark.parametrize("name", SMALL)
def test_snapshots_without_any_score_and_huge_ranges_are_harmless(name):
    values = random_walk(40, 9)
    values[:, [0, 4]] = 0
    values[:5] *= 1e25
    values[5:9] = 0
    forecaster = make_forecaster(name, **SMALL[name])
    assert np.isfinite(forecaster.fit(make_series(values)).predict(20)).all()
    forecaster.fit(make_series(np.where(np.arange(9) == 8, 0, values)))  # all zero at the last
    assert np.isfinite(forecaster.predict(20)).all()


@pytest.mark.parametrize("name", ["damped_drift", "local_level", *LEARNERS, "stacking"])
def test_a_single_snapshot_is_persisted_and_said_so(name):
    values = random_walk(40, 1)
    forecaster = fitted(name, values, 1)
    assert forecaster.fallback_.startswith("persistence")
    np.testing.assert_array_equal(forecaster.predict(30), make_series(values).values[:, 0])


@pytest.mark.parametrize("name", ["damped_drift", "local_level", *LEARNERS, "stacking"])
def test_on_random_walks_there_is_next_to_nothing_to_win_or_lose(name):
    assert abs(np.mean([skill_of(name, random_walk(200, 16, seed), 12) for seed in range(2)])) < 0.1


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("damped_drift", {"min_snapshots": 2}),
        ("elastic_net", {"alpha": 0}),
        ("elastic_net", {"l1_ratio": 1.5}),
        ("forest", {"n_estimators": 0}),
        ("gaussian_process", {"max_rows": 50_000}),
        ("recurrent", {"hidden": 0}),
        ("ranking", {"alpha": -1.0}),
        ("stacking", {"members": ()}),
        ("stacking", {"members": "ridge"}),
        ("stacking", {"members": (3,)}),
        ("conformal", {"forecaster": 3}),
        ("conformal", {"cutoffs": 0}),
    ],
)
def test_parameters_are_checked(name, params):
    with pytest.raises(ConfigError, match="expected"):
        make_forecaster(name, **params)


# Damped drift


@pytest.mark.parametrize("damping", DAMPINGS[:3])
def test_damped_drift_finds_the_damping_and_follows_the_bend(damping):
    values = bending(1, damping)
    forecaster = fitted("damped_drift", values, 8)
    assert forecaster.constants_[2] == damping
    assert skill_of("damped_drift", values, 8) > 0.7 > 0 > skill_of("drift", values, 8)


def test_a_damped_trend_is_followed_exactly_at_irregular_steps():
    time, end = np.cumsum([0, 1, 1, 3, 0.5, 1, 2]), 20.0
    curve = np.outer([1.0, -0.3], 1 - 0.8 ** np.append(time, end))
    level, trend, squares = _follow(curve[:, :-1].T, np.diff(time), 0.5, 0.3, 0.8, 1.0)
    assert squares == pytest.approx(0, abs=1e-20)
    np.testing.assert_allclose(level + _powers(0.8, end - time[-1]) * trend, curve[:, -1], rtol=1e-12)


def test_damped_drift_at_irregular_steps():
    steps = np.cumsum([0, 10, 10, 30, 5, 10, 20, 10, 10, 10, 15])
    values = bending(2, 0.8, t=11, steps=steps, noise=0.002)
    prediction = fitted("damped_drift", values, 8, steps=steps).predict(int(steps[-1] - steps[7]))
    assert skill(prediction, values[:, -1], values[:, 7]) > 0.5


def test_damped_drift_of_noise_is_no_trend():
    _, values = noisy_level(0, step=0.0)
    forecaster = fitted("damped_drift", values, 19)
    assert forecaster.constants_[1] == 0
    assert skill_of("damped_drift", values, 19) > 0.1


# Local level


def test_local_level_recovers_the_level_under_noise_better_than_persistence_and_the_mean():
    errors = {}
    for seed in range(3):
        level, values = noisy_level(seed, n=400)
        truth = to_relative(np.exp(level))[0][:, -1]
        for name in ("local_level", "persistence", "mean"):
            found = to_relative(fitted(name, values, 20).predict(10)[:, None])[0][:, 0]
            errors.setdefault(name, []).append(np.sqrt(np.mean((found - found.mean() - truth + truth.mean()) ** 2)))
    assert np.mean(errors["local_level"]) < 0.6 * np.mean(errors["persistence"])
    assert np.mean(errors["local_level"]) < 0.9 * np.mean(errors["mean"])


@pytest.mark.parametrize(("step", "noise", "expected"), [(0.0, 0.3, 0.0), (0.1, 0.0, 1.0), (0.2, 0.4, 0.2)])
def test_local_level_finds_how_much_of_the_movement_is_noise(step, noise, expected):
    _, values = noisy_level(3, n=500, t=30, step=step, noise=noise)
    forecaster = fitted("local_level", values, 30)
    assert forecaster.frequency_.sum() == pytest.approx(1)
    assert forecaster.frequency_ @ SHARES == pytest.approx(expected, abs=0.1)


def test_local_level_is_the_exact_posterior_mean(monkeypatch):
    steps, share = np.array([0, 10, 20, 50, 60]), 0.2
    monkeypatch.setattr("foresight.forecasters.local_level.SHARES", (share,))
    values = random_walk(6, 5)
    time = np.array([0, 1, 2, 5, 6.0])
    covariance = share * np.minimum.outer(time, time) + 1e6  # of the levels; the start is diffuse
    logs, level = to_relative(values.astype(np.float32))
    posterior = logs @ np.linalg.solve(covariance + (1 - share) * np.eye(5), covariance[-1])
    prediction = LocalLevel().fit(make_series(values, steps)).predict(10)
    np.testing.assert_allclose(prediction, from_relative(posterior, level[-1]), rtol=1e-4)


# Pooled learners


@pytest.mark.parametrize("name", [*LEARNERS, "stacking", "conformal"])
def test_past_runs_teach_what_a_short_run_cannot_show(name):
    values = late_growth(9)
    least = 0.2 if name == "ranking" else 0.5  # which gives out today's scores, while the real ones spread
    params = {"members": ["smoothing", "ridge"]} if name == "stacking" else {}  # one that can learn from past runs
    alone, taught = fitted(name, values, 3, **params), fitted(name, values, 3, PAST, **params)
    np.testing.assert_array_equal(alone.predict(90), values[:, 2].astype(np.float32))
    assert alone.fallback_ and not taught.fallback_
    prediction = taught.predict(90)
    assert skill(prediction, values[:, -1], values[:, 2]) > least
    assert newcomer_recall(prediction, values[:, -1], values[:, 2], 30) > 0.7


@pytest.mark.parametrize("name", [*LEARNERS[:4], "stacking"])
def test_trends_are_forecast_better_than_by_persistence(name):
    assert skill_of(name, trends(200, 16), 12) > 0.3


def test_an_elastic_net_drops_what_does_not_help():
    values = random_walk(300, 12)
    net = fitted("elastic_net", values, 12, alpha=0.05, l1_ratio=1.0).regressor_[-1]
    assert (net.coef_ == 0).mean() > 0.5
    assert (fitted("elastic_net", values, 12, l1_ratio=0.0).regressor_[-1].coef_ == 0).mean() < 0.3


def test_past_runs_without_a_pattern_do_little_harm():
    past = [random_walk(100, 12, seed) for seed in range(3)]
    for name in ("recurrent", "ranking", "stacking"):
        assert abs(skill_of(name, random_walk(200, 14, 9), 8, past)) < 0.1


def test_the_network_holds_horizons_beyond_training():
    forecaster = fitted("recurrent", trends(60, 8), 8, max_iter=20)
    assert float(forecaster.network_.longest) == 4  # gaps 1, 2, 4 from the second of eight snapshots
    np.testing.assert_array_equal(forecaster.predict(40), forecaster.predict(4000))
    assert (forecaster.predict(40) != forecaster.predict(30)).any()


def test_a_damaged_network_is_refused():
    forecaster = make_forecaster("recurrent", **SMALL["recurrent"]).pretrain([make_series(random_walk(30, 8))])
    arrays, data = forecaster.state()
    weight = arrays["pretrained.head.weight"]
    for bad in (weight[:, :-1], weight.astype(np.float64), np.full_like(weight, np.nan), np.full_like(weight, 1e9)):
        with pytest.raises(CheckpointError, match="head.weight"):
            forecaster.load_state({**arrays, "pretrained.head.weight": bad}, data)
    with pytest.raises(CheckpointError, match="longest"):
        forecaster.load_state({**arrays, "pretrained.longest": np.float32(-2).reshape(())}, data)


def test_ranking_deals_out_todays_scores():
    values = late_growth(9)
    prediction = fitted("ranking", values, 3, PAST).predict(90)
    np.testing.assert_allclose(np.sort(prediction), np.sort(values[:, 2]), rtol=1e-5)


def test_ranking_without_any_swap_is_persistence():
    values = np.repeat(random_walk(60, 1), 8, 1)
    forecaster = fitted("ranking", values, 8)
    assert "changed places" in forecaster.fallback_
    np.testing.assert_array_equal(forecaster.predict(30), values[:, -1].astype(np.float32))


# Stacking


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
    forecaster = fitted("stacking", late_growth(9), 3, PAST, members=("mean", "ridge"))
    assert forecaster.weights_.tolist() == [0, 1]
    nothing = [random_walk(60, 10, seed) for seed in range(4)]  # where a ridge has skill on what it was taught
    assert not fitted("stacking", random_walk(60, 3, 9), 3, nothing, members=("mean", "ridge")).weights_.any()


def test_wrapped_forecasters_survive_as_state():
    inner = make_forecaster("conformal", forecaster=make_forecaster("smoothing", alpha=0.5))
    made = make_forecaster("stacking", members=(inner, make_forecaster("ridge", alpha=0.1)))
    made.pretrain([make_series(each) for each in PAST]).fit(make_series(late_growth(9)[:, :6]))
    arrays, data = made.state()
    again = clone(made).load_state(arrays, json.loads(json.dumps(data)))
    np.testing.assert_array_equal(again.predict(60), made.predict(60))
    np.testing.assert_array_equal(again.weights_, made.weights_)
    made.members = (inner, make_forecaster("ridge", alpha=0.2))
    with pytest.raises(CheckpointError, match="same name and parameters"):
        made.load_state(arrays, data)
    with pytest.raises(CheckpointError, match="unknown arrays"):
        again.load_state({**arrays, "pretrained.7.changes": np.zeros(3, np.float32)}, data)


def test_members_may_be_forecasters_and_stay_as_they_are():
    member = make_forecaster("smoothing", alpha=0.5)
    values = noisy_level(0, step=0.0)[1]
    one = fitted("stacking", values, 12, members=(member,)).predict(10)
    np.testing.assert_allclose(one, fitted("smoothing", values, 12, alpha=0.5).predict(10), rtol=1e-6)
    assert not hasattr(member, "series_")


# Conformal intervals


def walk_by_kind(seed, n=6000, t=30):
    """Random walks of heads (every third) with steps of .3, of MLP blocks with steps of .1: errors are exchangeable."""
    rng = np.random.default_rng(seed)
    size = np.where(np.arange(n) % 3 == 0, 0.3, 0.1)[:, None]
    return np.exp(np.cumsum(rng.normal(0, size, (n, t)), 1)), size[:, 0] == 0.3


@pytest.mark.parametrize("horizon", [10, 40])
def test_intervals_hold_as_often_as_they_say_in_every_kind(horizon):
    values, heads = walk_by_kind(0)
    actual, seen = values[:, -1], 30 - horizon // 10
    forecaster = fitted("conformal", values, seen, forecaster="persistence")
    low, middle, high = forecaster.predict_quantiles(horizon, [0.1, 0.5, 0.9]).T
    for kind in (heads, ~heads):
        inside = ((low <= actual) & (actual <= high))[kind].mean()
        assert inside == pytest.approx(0.8, abs=0.03)
        assert (actual <= middle)[kind].mean() == pytest.approx(0.5, abs=0.04)
    width = np.log(high / low)
    assert np.median(width[heads]) == pytest.approx(3 * np.median(width[~heads]), rel=0.15)


def test_quantiles_are_order_statistics_of_past_errors():
    values = np.exp(np.array([[0, 1.0], [0, 3], [0, 2], [0, -1], [0, 0]]))  # one past error each, one kind
    series = make_series(values, layers=1).take([1, 2, 4])  # MLP blocks: errors 3, 2, 0
    forecaster = make_forecaster("conformal", forecaster="persistence").fit(series)
    ratio = forecaster.predict_quantiles(10, [0.2, 0.25, 0.5, 0.75, 0.9]) / series.values[:, -1:]
    np.testing.assert_allclose(np.log(ratio[0]), [0, 0, 2, 3, 3], atol=5e-3)


def test_the_prediction_is_the_inner_forecasters_and_intervals_grow_with_the_horizon():
    values, _ = walk_by_kind(1, n=300)
    forecaster = fitted("conformal", values, 20, forecaster=make_forecaster("smoothing", alpha=0.7))
    np.testing.assert_array_equal(forecaster.predict(20), fitted("smoothing", values, 20, alpha=0.7).predict(20))
    widths = [np.diff(np.log(forecaster.predict_quantiles(h, [0.1, 0.9])), axis=1).mean() for h in (1, 20, 60)]
    assert widths[0] < widths[1] < widths[2]


def test_errors_are_counted_on_snapshots_that_the_forecaster_had_not_seen():
    seen = []

    class Watching(Persistence):
        def _fit(self, series):
            seen.append(int(series.steps[-1]))

    forecaster = make_forecaster("conformal", forecaster=Watching()).fit(make_series(random_walk(20, 10)))
    seen.clear()
    forecaster.predict_quantiles(25, [0.5])
    assert seen == [30, 40, 50, 60]  # 30 steps, the first snapshot after 25, before the last one at 90
