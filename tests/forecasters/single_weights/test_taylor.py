"""The trapezoid is what the formula says, and what it should be where the scores are simple."""

import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, NonFiniteError
from foresight.forecasters.single_weights.taylor import EPSILON, shifted_scores, signed_scores, taylor_scores
from foresight.model.components import component_table
from foresight.scoring import ContrastProbe, make_scorer
from support.tiny import pairs, tiny, tiny_tokenizer
from support.weight_cases import PLACE, Known, a_shift, bits, same, setting

_, TABLE, _ = setting()
A, B, C, D = np.random.default_rng(0).normal(size=(4, len(TABLE)))


def both(scorer, factors, start=0.5, **settings):
    model, table, shift = setting(start)
    before = bits(model)
    found = taylor_scores(model, table, None, scorer, shift, factors, **settings)
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


def test_is_the_trapezoid_where_scores_are_cubic():
    """S = d u^3 from u = 0 to K: half of 3 d K^2 x K, one and a half times the truth."""
    found, direct = both(Known(lambda u: D * u**3), [2.0], start=0.0, epsilon=1e-4)
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
    assert np.allclose(here, signed_scores(tiny(dtype=dtype).float(), table, probe, scorer), rtol=1e-4, atol=1e-6)


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


@pytest.mark.parametrize("factors", [[], [1.0, float("nan")], [[1.0]]])
def test_bad_factors_are_refused(factors):
    model, table, shift = setting()
    for method in (taylor_scores, shifted_scores):
        with pytest.raises(ConfigError, match="expected at least one finite number"):
            method(model, table, None, Known(lambda u: A), shift, factors)
    with pytest.raises(ConfigError, match="epsilon is 0"):
        taylor_scores(model, table, None, Known(lambda u: A), shift, [1.0], epsilon=0)
    with pytest.raises(ConfigError, match=PLACE):
        shifted_scores(model, table, None, Known(lambda u: A), {PLACE: torch.zeros(3)}, [1.0])
