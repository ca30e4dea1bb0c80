"""Forgetting at equal target loss on frontiers that are known."""

import numpy as np
import pytest

from foresight.studies.compare.frontier import difference, envelope, forgetting, grid, points, retained_at
from foresight.studies.compare.results import Cell, CurvePoint, Measures
from support.synthetic_runs import record

START = 4.0


def curve(rate: float, cost: float = 0.5, evaluations: int = 6, shift: float = 0.0):
    """A run that learns at a rate and pays `cost` nats of retained loss for every factor e of target loss, and `shift`
    more once it has begun."""
    loss = START * np.exp(-rate * np.arange(evaluations))
    return [(float(x), 0.1 + cost * float(np.log(START / x)) + (shift if x < START else 0)) for x in loss]


def run(seen, draw=0, rate=1e-3, seed=1) -> object:
    shown = tuple(CurvePoint(10 * i, x, 0.5, y, 0.9) for i, (x, y) in enumerate(seen))
    return record(Cell("score", "a", "t", seed=seed, draw=draw, learning_rate=rate), Measures({"t": 0.5}, curve=shown))


def test_a_planted_shift_is_found():
    """Less what the first stretch before both have begun costs of it."""
    found = difference(curve(0.4, shift=0.3, evaluations=30), curve(0.4, evaluations=30))
    assert found == pytest.approx(0.3, abs=0.02) and found < 0.3


def test_arms_on_one_frontier_differ_by_nothing_however_fast_they_are():
    """A fast arm with few evaluations forgets more in the end, and not at equal target loss."""
    fast, slow = curve(0.8, evaluations=3), curve(0.1, evaluations=9)
    assert fast[-1][1] > slow[-1][1] + 0.3
    assert difference(fast, slow) == pytest.approx(0, abs=0.002)


def test_a_steeper_frontier_is_worse_by_its_slope():
    """Twice the cost over a range of log target loss that is 1 wide on average: .5 times half the range."""
    found = difference(curve(0.2, cost=1.0), curve(0.2, cost=0.5))
    assert found == pytest.approx(0.5 * 0.5 * np.log(START / curve(0.2)[-1][0]), rel=0.02)


def test_the_sign_turns_with_the_arms():
    a, b = curve(0.3, cost=0.7), curve(0.5, cost=0.4)
    assert difference(a, b) == pytest.approx(-difference(b, a))


def test_the_envelope_keeps_what_nothing_beats():
    seen = [(4.0, 0.1), (2.0, 0.5), (1.0, 0.4), (0.5, 0.9), (0.7, 0.95)]
    assert envelope(seen).tolist() == [[0.5, 0.9], [1.0, 0.4], [4.0, 0.1]]
    assert retained_at(envelope(seen), np.array([0.4, 1.0, 9.0])) == pytest.approx([np.nan, 0.4, 0.1], nan_ok=True)


def test_a_second_learning_rate_can_only_help():
    one, both = curve(0.3, cost=0.8), [*curve(0.3, cost=0.8), *curve(0.3, cost=0.5)]
    reference = curve(0.2)
    assert difference(both, reference) < difference(one, reference)


def test_an_arm_that_learns_nothing_has_no_common_range():
    still = [(START, 0.1), (START - 0.005, 0.1)]
    assert difference(still, curve(0.3)) is None
    values, unmatched = forgetting(
        {("t", 1): [still], ("u", 1): [curve(0.3)]}, {("t", 1): [curve(0.3)], ("u", 1): [curve(0.3)]}
    )
    assert values == {("u", 1): pytest.approx(0)} and unmatched == 1


def test_a_run_that_rises_above_its_start_adds_nothing_there():
    risen = [*curve(0.3), (9.0, 3.0)]
    assert difference(risen, curve(0.3)) == pytest.approx(0)


def test_rates_belong_together_and_draws_do_not():
    records = [run(curve(0.3), rate=1e-3), run(curve(0.5), rate=3e-3), run(curve(0.4), draw=1)]
    (draws,) = points(records).values()
    assert sorted(len(draw) for draw in draws) == [6, 12]
    apart = forgetting(points(records), points([run(curve(0.2))]))[0]
    assert apart == {("t", ("shipped", 1)): pytest.approx(0, abs=0.002)}


def test_runs_without_retained_losses_have_no_points():
    shown = tuple(CurvePoint(10 * i, loss, 0.5) for i, loss in enumerate((4.0, 2.0)))
    assert points([record(Cell("score", "a", "t"), Measures({"t": 0.5}, curve=shown))]) == {}


def test_the_grid_is_even_in_log_loss():
    found = grid(0.001, 4.0)
    assert found[[0, -1]] == pytest.approx([0.001, 4.0])
    assert np.ptp(np.diff(np.log(found + 0.01))) == pytest.approx(0, abs=1e-9)
