"""Targets: what is forecast, what it ranks by, by what the gate judges it, and how others add theirs."""

from dataclasses import replace

import numpy as np
import pytest

from foresight.common import plugins
from foresight.common.errors import ConfigError, NonFiniteError, TrajectoryError, UnknownNameError
from foresight.forecasters import make_forecaster
from foresight.masks.selection import select
from foresight.policies.gate import FORECAST, Gate, windows
from foresight.policies.policy import Past, View
from foresight.policies.targets import BUILT_IN, REGISTRY, Target, make_target, register, target_names
from foresight.scoring.scorer import BENEFIT, DAMAGE
from foresight.trajectory.metrics import overlap
from support.planted import make_series, make_table, random_walk, series_of
from support.policies import make_policy as policy_on
from support.simulated import series

TABLE = make_table(layers=4, heads=4, blocks=4)
BUDGET = 24


def recorded(t=6, seed=0):
    return series_of(TABLE, random_walk(len(TABLE), t, seed, size=0.5))


def harm(t=6, seed=1):
    return np.random.default_rng(seed).normal(size=(len(TABLE), t)).astype(np.float32)


def view(**changes):
    given = dict(table=TABLE, n_vectors=BUDGET, step=50, total_steps=100, series=recorded(), horizon=20, damage=harm())
    return View(**{**given, **changes})


def make_policy(name, **given):
    return policy_on(name, table=TABLE, **given)


class Lowest(Target):
    """The lowest scores first."""

    def combine(self, parts):
        return -parts[0]


# -- the default is what it was ---------------------------------------------------------------------------------------


def test_circuit_is_the_forecast_itself_at_the_horizon():
    target, run, drift = make_target("circuit"), recorded(), make_forecaster("drift")
    expected = drift.fit(run).predict(20)
    for found in target.forecast(drift, target.parts(run), 20):
        assert found.dtype == np.float32 and np.array_equal(found, expected)
    assert np.array_equal(target.realised([run], 1, 4), run.values[:, 4])
    assert target.summary(run) is run
    policy = make_policy("foresight", forecaster=make_forecaster("drift"), gate=False)
    assert policy.mask(view()) == select(expected, TABLE, BUDGET)
    assert np.array_equal(policy.last_forecast.prediction, expected)
    assert np.array_equal(policy.last_forecast.persistence, run.values[:, -1])


@pytest.mark.parametrize("name", ["static", "reactive", "foresight", "oracle", "prior"])
def test_circuit_is_the_plain_target_for_every_policy(name):
    own = {"oracle_trajectory": recorded(seed=3)} if name == "oracle" else {}
    history = [Past(recorded(seed=s), f"g{s}") for s in range(3)]
    plain, named = (
        make_policy(name, forecaster=make_forecaster("damped_drift"), history=history, target=target, **own)
        for target in (Target(), make_target("circuit"))
    )
    assert plain.mask(view()) == named.mask(view()) and plain.words == named.words


# -- means over the way -----------------------------------------------------------------------------------------------


def test_utility_is_the_mean_over_the_steps_up_to_the_horizon():
    target, run = make_target("utility"), recorded()
    assert np.allclose(target.realised([run], 1, 4), run.values[:, 2:5].mean(1))
    drift = make_forecaster("drift").fit(run)
    mean, last = target.forecast(make_forecaster("drift"), [run], 20)
    assert np.allclose(mean, np.mean([drift.predict(h) for h in (5, 10, 15, 20)], axis=0))
    assert np.array_equal(last, drift.predict(20))
    one_step, _ = target.forecast(make_forecaster("drift"), [run], 1)
    assert np.array_equal(one_step.astype(np.float32), drift.predict(1))


def test_what_each_has_to_have_recorded():
    assert make_target("utility").scorer_params == {"preconditioner": "adam"}
    assert make_target("utility", preconditioner="none").scorer_params == {}
    moves = make_target("utility", preconditioner="moves")
    assert moves.scorer is None and moves.measures == (BENEFIT,)
    assert make_target("damage").measures == (BENEFIT, DAMAGE) and make_target("movement").scorer == "movement"
    assert make_target("circuit").scorer is None and make_target("circuit").measures == ()


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_the_last_damage_is_taken_from_the_last_benefit(weight):
    target = make_target("damage", damage_weight=weight)
    expected = select(recorded().values[:, -1] - weight * harm()[:, -1], TABLE, BUDGET)
    assert make_policy("reactive", target=target).mask(view()) == expected
    persistent = make_policy("foresight", target=target, forecaster=make_forecaster("persistence"), gate=False)
    assert persistent.mask(view()) == expected


def test_parts_are_magnitudes_that_make_up_what_was_measured():
    run = recorded()
    run = replace(run, stderr=run.values)
    benefit, harmful, helpful = make_target("damage").parts(run, harm())
    assert harmful.stderr is None is helpful.stderr  # they are those of benefit
    assert benefit is run
    np.testing.assert_array_equal(harmful.values - helpful.values, harm())
    assert not (harmful.values * helpful.values).any()
    np.testing.assert_array_equal(harmful.steps, run.steps)


@pytest.mark.parametrize("horizon", [1, 2, 3, 7, 100])
def test_persistence_is_exactly_the_re_measured_control(horizon):
    target, benefit, damage = make_target("damage", damage_weight=2.0), recorded().values[:, -1], harm()[:, -1]
    mean, last = target.forecast(make_forecaster("persistence"), target.parts(recorded(), harm()), horizon)
    np.testing.assert_array_equal(last, benefit - 2 * damage)
    np.testing.assert_array_equal(mean, benefit.astype(np.float64) - 2 * damage.astype(np.float64))


def test_a_linear_trend_of_damage_is_followed_to_the_middle_of_the_rest():
    steps, target = np.arange(6) * 10, make_target("damage", benefit=False)
    rising = np.stack([1 + 0.1 * steps, 20 - 0.1 * steps]).astype(np.float32)
    parts = target.parts(make_series(np.ones((2, 6)), steps), rising)
    mean, _ = target.forecast(make_forecaster("drift"), parts, 40)
    middle = np.array([1 + 0.1 * 75, 20 - 0.1 * 75])  # horizons 10, 20, 30, 40 after step 50
    np.testing.assert_allclose(-mean, middle, rtol=1e-3)


def test_a_forecast_of_damage_keeps_its_sign():
    target = make_target("damage", benefit=False)
    for found in target.forecast(make_forecaster("mean"), target.parts(recorded(), -np.abs(harm())), 10):
        assert (found > 0).all()


def test_damage_that_cannot_belong_to_the_benefit_is_refused():
    target = make_target("damage")
    with pytest.raises(TrajectoryError, match=r"damage has shape \(32, 5\); expected that of benefit, \(32, 6\)"):
        target.parts(recorded(), harm()[:, 1:])
    with pytest.raises(NonFiniteError):
        target.parts(recorded(), np.full_like(harm(), np.nan))


def test_damage_alone_is_best_low_and_keeps_its_sign():
    target, run = make_target("damage", benefit=False), recorded()
    parts = target.parts(run, harm())
    assert np.array_equal(target.at(parts, -1), -harm()[:, -1])
    assert np.array_equal(np.argsort(target.summary(run, harm()).values[:, -1]), np.argsort(-harm()[:, -1]))
    assert len(target.parts(run.until(20), harm())[1].steps) == 3  # what lies later is not looked at
    with pytest.raises(ConfigError, match="needs damage at every snapshot"):
        target.parts(run)


def test_policies_learn_from_recorded_damage():
    history = [Past(recorded(9, s), f"g{s}", harm(9, s)) for s in range(4)]
    target = make_target("damage")
    policy = make_policy("foresight", target=target, forecaster=make_forecaster("ridge"), history=history)
    policy.mask(view())
    assert "4 groups of recorded runs" in policy.words and "prior" in policy.words
    assert any("pretrained" in key for key in policy.state()[0])
    prior = make_policy("prior", target=target, history=history).scores(TABLE)
    assert not np.array_equal(prior, make_policy("prior", history=history).scores(TABLE))
    with pytest.raises(ConfigError, match="needs damage"):
        make_policy("foresight", target=target, forecaster=make_forecaster("ridge"), history=[Past(recorded(), "g")])


# -- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [Lowest(), make_target("utility")], ids=["lowest", "utility"])
def test_the_gate_judges_a_forecast_on_its_target(target):
    run, k, horizon = series("relay"), 6, 10
    verdict = Gate(make_forecaster("damped_drift"), (), target).judge(run, horizon, k)
    found = {FORECAST: [], "persistence": [], "static": []}
    for cutoff, until in windows(run, horizon):
        seen, actual = run.until(int(run.steps[cutoff])), target.realised([run], cutoff, until)
        ahead = [target.forecast(make_forecaster("damped_drift"), [seen], horizon)[0], target.at([seen], -1),
                 target.at([seen], 0)]  # fmt: skip
        for name, scores in zip(found, ahead, strict=True):
            found[name].append(overlap(scores, actual, k))
    assert {name: verdict.overlaps[name] for name in found} == pytest.approx({n: np.mean(v) for n, v in found.items()})
    circuit = Gate(make_forecaster("damped_drift"), (), make_target("circuit")).judge(run, horizon, k)
    assert verdict.overlaps != circuit.overlaps


def test_the_ceiling_is_of_the_target_too():
    history = [Past(series("walk", seed), "x") for seed in (1, 2)]
    gate = Gate(make_forecaster("persistence"), history, Lowest())
    verdict = gate.judge(series("walk", 3).until(50), 10, 6)
    a, b = (past.series.values[:, 12] for past in history)
    assert verdict.ceiling == overlap(-a, -b, 6)


# -- names and plug-ins -----------------------------------------------------------------------------------------------


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(REGISTRY, "_registered", dict(REGISTRY._registered))


def test_built_in_names_make_their_class():
    assert set(target_names()) >= {"circuit", "damage", "movement", "utility"}
    assert all(make_target(name).name == name for name in BUILT_IN)


def test_unknown_names_and_parameters_offer_the_closest():
    with pytest.raises(UnknownNameError, match="unknown target 'utlity' .did you mean 'utility'"):
        make_target("utlity")
    with pytest.raises(ConfigError, match="no parameter 'preconditoner' .did you mean 'preconditioner'"):
        make_target("utility", preconditoner="adam")
    with pytest.raises(UnknownNameError, match="unknown preconditioner 'adma'"):
        make_target("utility", preconditioner="adma")
    for bad in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="damage_weight is"):
            make_target("damage", damage_weight=bad)


def test_a_class_or_object_is_found_by_its_module(tmp_path, monkeypatch):
    code = (
        "from foresight.policies.targets import Target\n"
        "class Mine(Target):\n    scorer = 'gradient'\nmine = Mine()\nn = 3\n"
    )
    module = f"own_target_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    made = make_target(f"{module}:Mine")
    assert (
        made.scorer == "gradient"
        and made.name == f"{module}:Mine"
        and type(make_target(f"{module}:mine")) is type(made)
    )
    with pytest.raises(ConfigError, match="expected a subclass of foresight.policies.targets.Target"):
        make_target(f"{module}:n")
    with pytest.raises(ConfigError, match="has no 'Mein' .did you mean 'Mine'"):
        make_target(f"{module}:Mein")


def test_packages_offer_targets_and_built_in_names_are_taken(clean_registry, monkeypatch):
    class Point:
        name, dist, value = "lowest", None, "plugin_module:Lowest"

        def load(self):
            return Lowest

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()] if group == "foresight.targets" else [])
    assert "lowest" in target_names() and isinstance(make_target("lowest"), Lowest)
    with pytest.raises(ConfigError, match="exists already"):
        register("circuit")(type("Other", (Target,), {}))
    with pytest.raises(ConfigError, match="not a subclass of foresight.policies.targets.Target"):
        register("function")(lambda: None)


def test_needs_that_a_run_cannot_meet_are_named():
    class Pairs(Target):
        name, scorer = "pairs", "attribution"

    class Absent(Target):
        name, scorer = "absent", "atribution"

    with pytest.raises(ConfigError, match="target 'pairs' needs contrast pairs"):
        Pairs().check(pairs=False, retained=True)
    Pairs().check(pairs=True, retained=False)
    with pytest.raises(ConfigError, match="target 'damage' needs to know what is to be kept"):
        make_target("damage").check(pairs=True, retained=False)
    with pytest.raises(UnknownNameError, match="scorer of target 'absent'.*did you mean 'attribution'"):
        Absent().check(pairs=False, retained=False)
    for name in ("circuit", "movement", "utility"):
        make_target(name).check(pairs=False, retained=False)
