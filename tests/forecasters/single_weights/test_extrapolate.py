"""The Taylor forecast is the trapezoid of its formula; forecasts from a path see only what lies up to the cutoff."""

import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, NonFiniteError
from foresight.forecasters import FROM_WEIGHTS
from foresight.forecasters.single_weights import extrapolate
from foresight.forecasters.single_weights.extrapolate import (
    DRAWS,
    EPSILON,
    draw_factors,
    forecast_scores,
    shifted_scores,
    taylor_scores,
)
from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.scoring.probes import ContrastProbe
from support.tiny import pairs, tiny, tiny_tokenizer
from support.weight_cases import PLACE, Known, Path, a_shift, bits, same, setting

_, TABLE, _ = setting()
A, B, C, D = np.random.default_rng(0).normal(size=(4, len(TABLE)))
STEPS = (0, 10, 20, 30, 40, 80)
RATES = np.linspace(1e-3, 1e-4, 100)


def both(scorer, factors, start=0.5):
    model, table, shift = setting(start)
    before = bits(model)
    found = taylor_scores(model, table, None, scorer, shift, factors)
    direct = shifted_scores(model, table, None, scorer, shift, factors)
    assert same(before, model)
    return found, direct


def test_equals_the_scores_themselves_where_they_are_linear():
    found, direct = both(Known(lambda u: A + B * u), [0.3, 2.0, 4.0])
    assert np.allclose(direct, A + B * (0.5 + 2.1), rtol=1e-5)
    assert np.allclose(found, direct, atol=2e-3)


def test_equals_the_scores_themselves_where_they_are_quadratic():
    """The trapezoid rule is exact for quadratic scores; forward differences add epsilon x c x K^2."""
    factors = np.array([1.0, 3.0])
    found, direct = both(Known(lambda u: A + B * u + C * u**2), factors)
    assert np.allclose(found, direct + EPSILON * C * (factors**2).mean(), atol=3e-3)
    assert not np.allclose(found, A + B * 2.5, atol=0.1)


def test_is_the_trapezoid_where_scores_are_cubic(monkeypatch):
    """S = d u^3 from u = 0 to K: half of 3 d K^2 x K, one and a half times the truth."""
    monkeypatch.setattr(extrapolate, "EPSILON", 1e-4)
    found, direct = both(Known(lambda u: D * u**3), [2.0], start=0.0)
    assert np.allclose(direct, 8 * D) and np.allclose(found, 12 * D, rtol=2e-3)


def test_signed_scores_are_averaged_over_k_not_their_magnitudes():
    found, direct = both(Known(lambda u: B * u), [1.0, -1.0], start=0.0)
    assert np.allclose(direct, 0, atol=1e-6) and np.allclose(found, 0, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_follows_attribution_over_a_short_way_to_first_order(dtype):
    model = tiny(dtype=dtype)
    table, probe = component_table(model), ContrastProbe.from_dataset(pairs(8), tiny_tokenizer(), 4)
    scorer, shift, before = make_scorer("attribution"), a_shift(model, size=3e-3), bits(model)
    there = shifted_scores(model, table, probe, scorer, shift, [1.0])
    found = taylor_scores(model, table, probe, scorer, shift, [1.0])
    here = shifted_scores(model, table, probe, scorer, shift, [0.0])
    assert same(before, model) and np.linalg.norm(found - there) < 0.1 * np.linalg.norm(there - here)
    samples = scorer.samples(tiny(dtype=dtype).float(), table, probe)
    assert np.allclose(here, samples.mean(0, dtype=np.float64), rtol=1e-4, atol=1e-6)


def test_costs_one_scoring_and_three_for_each_k():
    calls = []

    def counted(u):
        calls.append(u)
        return A

    model, table, shift = setting()
    taylor_scores(model, table, None, Known(counted), shift, [1.0, 2.0])
    assert np.allclose(calls, [0, 1e-3, 1, 1.001, 2e-3, 2, 2.002])
    calls.clear()
    shifted_scores(model, table, None, Known(counted), shift, [1.0, 2.0])
    assert calls == [1, 2]


def test_weights_are_back_when_scores_are_not_finite():
    model, table, shift = setting()
    before = bits(model)
    with pytest.raises(NonFiniteError, match="known gave"):
        taylor_scores(model, table, None, Known(lambda u: A if u < 1 else np.nan * A), shift, [1.0])
    assert same(before, model)


def test_a_shift_that_does_not_fit_is_refused():
    model, table, _ = setting()
    with pytest.raises(ConfigError, match=PLACE):
        shifted_scores(model, table, None, Known(lambda u: A), {PLACE: torch.zeros(3)}, [1.0])


# How far


@pytest.mark.parametrize(
    ("ahead", "behind", "message"),
    [
        (1.0, 0.0, "sum to 0 over the steps seen"),
        (-1.0, 1.0, "and -1 over those to come"),
        (float("nan"), 1.0, "expected a finite"),
    ],
)
def test_sums_of_learning_rates_are_checked(ahead, behind, message):
    with pytest.raises(ConfigError, match=message):
        draw_factors(ahead, behind, 0)


@pytest.mark.parametrize("ahead", [0.04, 1.0, 9.0, 400.0])
def test_k_is_between_a_random_walk_and_a_straight_line(ahead):
    ends = sorted([ahead / 1.0, ahead**0.5])
    assert np.allclose(draw_factors(ahead, 1.0, 0), draw_factors(3 * ahead, 3.0, 0))
    many = np.concatenate([draw_factors(ahead, 1.0, seed) for seed in range(1000)])
    assert ends[0] <= many.min() and many.max() <= ends[1]
    assert many.mean() == pytest.approx(sum(ends) / 2, abs=0.02 * (ends[1] - ends[0]) + 1e-12)


def test_draws_follow_their_seed_alone():
    a, b, c = draw_factors(9.0, 1.0, 5), draw_factors(9.0, 1.0, 5), draw_factors(9.0, 1.0, 6)
    assert np.array_equal(a, b) and len(a) == DRAWS and not np.isin(a, c).any()


# Forecasts from a path


def ask(method, law, cutoff=30, horizon=50, known_until=None, start=0.0, **settings):
    """The forecast of |b u| for u = law(step), with a base model at u = start."""
    model, table, _ = setting(start)
    before = bits(model)
    path = Path({step: law(step) for step in STEPS}, cutoff if known_until is None else known_until)
    given = {"learning_rates": RATES, **settings}
    found = forecast_scores(method, model, table, path, None, Known(lambda u: B * u), cutoff, horizon, **given)
    assert same(before, model) and found.dtype == np.float64 and found.shape == (len(table),)
    return found, path


@pytest.mark.parametrize("method", ["taylor", "displaced"])
def test_the_displacement_continues_as_far_as_the_learning_rates_allow(method):
    found, path = ask(method, lambda t: 0.01 * t, seed=3)
    mean_k = draw_factors(RATES[30:80].sum(), RATES[:30].sum(), 3).mean()
    assert np.allclose(found, np.abs(B * (0.3 + 0.3 * mean_k)), atol=2e-3)
    assert set(path.read) == {0, 30}  # what lies between does not matter, and is not read
    other, _ = ask(method, lambda t: 0.01 * t, seed=4)
    assert not np.allclose(found, other, rtol=1e-3)


@pytest.mark.parametrize("method", FROM_WEIGHTS)
def test_the_future_is_not_read(method):
    """The path refuses to be read after the cutoff, and rates after the target are poisoned."""
    poisoned = np.where(np.arange(100) < 80, RATES, np.nan)
    one, _ = ask(method, np.sqrt, learning_rates=poisoned)
    other, _ = ask(method, lambda t: np.sqrt(t) if t <= 30 else 1e9)
    assert np.array_equal(one, other) and np.isfinite(one).all()


@pytest.mark.parametrize("method", FROM_WEIGHTS)
def test_weights_that_do_not_move_keep_their_scores(method):
    found, _ = ask(method, lambda t: 0.7)
    assert np.allclose(found, np.abs(0.7 * B), rtol=1e-4)


def test_signed_scores_are_corrected():
    seen = []
    plain, _ = ask("displaced", np.sqrt)
    found, _ = ask("displaced", np.sqrt, corrected=lambda signed: seen.append(signed) or signed - 1)
    assert np.allclose(np.abs(seen[0]), plain) and np.allclose(found, np.abs(seen[0] - 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(cutoff=9), r"steps \[0\] up to the cutoff 9"),
        (dict(learning_rates=RATES[:70]), "70 learning rates for a forecast of step 80"),
        (dict(learning_rates=np.zeros(100)), "sum to 0 over the steps seen"),
    ],
)
def test_bad_inputs_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        ask(**{"method": "taylor", "law": np.sqrt, **changes})
