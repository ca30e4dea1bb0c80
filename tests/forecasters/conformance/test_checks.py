"""The conformance suite passes what keeps the contract, and finds whatever does not: one broken forecaster a rule."""

import time
import tracemalloc

import numpy as np
import pytest

from foresight.common.errors import ConfigError, UnknownNameError
from foresight.forecasters import Forecaster, from_function
from foresight.forecasters.conformance import RULES, check_forecaster, iterate_checks, parametrize_with_checks
from foresight.forecasters.conformance.cases import histories
from support.planted import make_series, random_walk


class Last(Forecaster):
    """Persistence with a parameter: sound, and broken below in one way each."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def _fit(self, series):
        self.last_ = series.values[:, -1] * self.factor

    def _predict(self, horizon):
        return self.last_


BROKEN = {}


def breaks(rule):
    def add(cls):
        assert rule not in BROKEN
        BROKEN[rule] = cls
        return cls

    return add


@breaks("parameters_untouched")
class CountsInAParameter(Last):
    def _predict(self, horizon):
        self.factor += 1e-9
        return self.last_


@breaks("clone_round_trip")
class IgnoresSetParams(Last):
    def set_params(self, **params):
        return self


@breaks("not_fitted_error")
class ForgetsToAsk(Last):
    def _check_fitted(self, method):
        pass


@breaks("bad_horizons_refused")
class TakesAnyHorizon(Last):
    def predict(self, horizon):
        self._check_fitted("predict")
        return self.last_.copy()


@breaks("inputs_untouched")
class WritesIntoTheSeries(Last):
    def _fit(self, series):
        series.vectors.flags.writeable = True
        series.vectors[0] += 1
        series.vectors.flags.writeable = False
        super()._fit(series)


@breaks("random_state_untouched")
class SeedsEveryone(Last):
    def _fit(self, series):
        np.random.seed(0)
        super()._fit(series)


@breaks("output")
class PredictsDoublesFarAhead(Last):
    def predict(self, horizon):
        values = super().predict(horizon)
        return values * np.float64(0.5) if horizon > 5_000 else values


@breaks("one_snapshot")
class NeedsTwo(Last):
    def _fit(self, series):
        self.change_ = series.values[:, -1] - series.values[:, -2]
        super()._fit(series)


@breaks("short_series")
class NeedsThreeOrOne(Last):
    def _fit(self, series):
        if len(series.steps) > 1:
            self.curvature_ = series.values[:, -1] - 2 * series.values[:, -2] + series.values[:, -3]
        super()._fit(series)


@breaks("constant_series")
class DividesByTheSpread(Last):
    def _fit(self, series):
        super()._fit(series)
        if len(series.steps) > 4:
            with np.errstate(invalid="ignore"):
                spread = series.values.std(1)
                self.last_ = self.last_ * spread / spread


@breaks("nan_refused")
class SwallowsNaN(Last):
    def update(self, step, values):
        values = np.asarray(values)
        return super().update(step, np.nan_to_num(values, nan=0, posinf=0) if values.ndim == 1 else values)


@breaks("bad_updates_refused")
class BendsSnapshots(Last):
    def update(self, step, values):
        self._check_fitted("update")
        return super().update(step, np.resize(values, len(self.series_)))


@breaks("deterministic")
class FollowsTheGlobalSeed(Last):
    def _fit(self, series):
        super()._fit(series)
        noise = np.random.default_rng(np.random.get_state()[1]).random()
        self.last_ = self.last_ * (1 + 0.01 * noise)


@breaks("permutation_equivariance")
class LooksAtTheFirst(Last):
    def _predict(self, horizon):
        return self.last_ + 0.01 * self.last_[0]


@breaks("ties_stable")
class PrefersLateIndexes(Last):
    def _predict(self, horizon):
        return self.last_ * (1 + 1e-4 * self.series_.index)


@breaks("no_look_ahead")
class RemembersTheLongestRun(Last):
    def _fit(self, series):
        longest = getattr(self, "longest_", series)
        self.longest_ = series if len(series.steps) >= len(longest.steps) else longest
        super()._fit(self.longest_)


@breaks("update_equals_fit")
class KeepsTheOldFit(Last):
    def update(self, step, values):
        last = getattr(self, "last_", None)
        super().update(step, values)
        self.last_ = last
        return self


@breaks("pretraining")
class WantsEqualSizes(Last):
    def _pretrain(self, histories):
        if any(len(series.steps) == 1 for series in histories):
            raise ValueError("too short")


@breaks("standard_errors")
class NeedsToKnowHowSure(Last):
    def _fit(self, series):
        super()._fit(series)
        if series.stderr is not None:
            self.last_ = np.maximum(0, self.last_ - series.stderr[:, -1])


@breaks("state_round_trip")
class ForgetsPretraining(Last):
    def _pretrain(self, histories):
        self.level_ = float(histories[0].values.mean())

    def _fit(self, series):
        super()._fit(series)
        self.last_ = self.last_ + getattr(self, "level_", 0)


@breaks("hostile_state_refused")
class TakesAnything(Last):
    def load_state(self, arrays, data):
        known = {key: array for key, array in arrays.items() if "extra" not in key}
        return super().load_state(known, data)


@breaks("growth")
class ComparesAllPairs(Last):
    def _fit(self, series):
        super()._fit(series)
        self.distance_ = np.abs(self.last_[:, None] - self.last_).mean(1, dtype=np.float64)


def test_the_sound_one_passes():
    assert [result.outcome for result in check_forecaster(Last())] == ["pass"] * len(RULES)


def test_every_rule_has_a_forecaster_that_breaks_it():
    assert set(BROKEN) == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_forecaster_fails_exactly_its_rule(rule):
    failed = {result.rule: result.reason for result in iterate_checks(BROKEN[rule]()) if result.outcome != "pass"}
    assert set(failed) == {rule}, failed
    assert failed[rule]


@pytest.mark.parametrize("slow", ["components", "snapshots"])
def test_time_that_grows_too_fast_is_found_in_either_direction(slow):
    class Slow(Last):
        def _fit(self, series):
            super()._fit(series)
            ratio = series.values.shape[slow == "snapshots"] / (3000 if slow == "components" else 120)
            end = time.process_time() + 0.6 * ratio**2  # 6 ms, then 600
            while time.process_time() < end:
                pass

    with pytest.raises(AssertionError, match=f"10 times the {slow} cost"):
        RULES["growth"](Slow())


def test_memory_tracing_of_the_caller_goes_on():
    tracemalloc.start()
    try:
        RULES["growth"](Last())
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_the_forecaster_is_not_changed():
    made = Last()
    check_forecaster(made)
    assert vars(made) == {"factor": 1.0}


class Excused(PrefersLateIndexes):
    expected_failures = {"ties_stable": "late indexes are believed to matter"}


def test_expected_failures_carry_their_reason():
    results = {result.rule: result for result in check_forecaster(Excused())}
    assert results["ties_stable"].outcome == "expected failure"
    assert results["ties_stable"].reason == "late indexes are believed to matter"
    assert sum(result.outcome == "pass" for result in results.values()) == len(RULES) - 1


@parametrize_with_checks([Excused()])
def test_expected_failures_are_strict_xfails(forecaster, check, request):
    if check is RULES["ties_stable"]:
        (mark,) = request.node.iter_markers("xfail")
        assert mark.kwargs == {"reason": "late indexes are believed to matter", "strict": True}
    check(forecaster)


def test_names_of_tests_are_the_same_in_every_process():
    _, cases = parametrize_with_checks([from_function(len)]).args
    assert {case.id for case in cases} == {
        f"FunctionForecaster(function=<built-in function len>)-{rule}" for rule in RULES
    }
    _, cases = parametrize_with_checks([from_function(histories)]).args
    assert not any("0x" in case.id for case in cases)


def test_an_expected_failure_that_passes_fails():
    class TooModest(Last):
        expected_failures = {"ties_stable": "one never knows"}

    with pytest.raises(AssertionError, match="ties_stable: passes, though it is an expected failure .one never knows"):
        check_forecaster(TooModest())


def test_an_expected_failure_of_no_rule_is_refused():
    class Mistyped(Last):
        expected_failures = {"tie_stable": "a typo"}

    with pytest.raises(UnknownNameError, match="did you mean 'ties_stable'"):
        check_forecaster(Mistyped())


def test_all_broken_rules_are_reported_together():
    class Twice(PrefersLateIndexes, IgnoresSetParams):
        pass

    with pytest.raises(AssertionError, match="(?s)breaks 2 rules:.*clone_round_trip: .*ties_stable: "):
        check_forecaster(Twice())


def test_names_are_made_and_anything_else_is_refused():
    assert check_forecaster("persistence")
    with pytest.raises(UnknownNameError, match="did you mean 'persistence'"):
        check_forecaster("persistance")
    for bad in (Last, object(), None):
        with pytest.raises(ConfigError, match="expected a Forecaster"):
            check_forecaster(bad)


class NeedsPast(Last):
    needs_pretraining = True

    def _pretrain(self, histories):
        self.level_ = np.array([float(histories[0].values.mean())])

    def _pretrained_arrays(self):
        return {"level": self.level_} if hasattr(self, "level_") else {}

    def _load_pretrained(self, arrays):
        if arrays:
            self.level_ = arrays.pop("level")
            if self.level_.shape != (1,) or self.level_.dtype != float or not np.isfinite(self.level_).all():
                raise ValueError("level")


def test_what_needs_past_runs_gets_some_and_is_refused_without():
    check_forecaster(NeedsPast())
    with pytest.raises(ConfigError, match="needs past runs; call pretrain"):
        NeedsPast().fit(make_series(random_walk(30, 5)))
