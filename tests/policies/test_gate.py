"""The gate opens where a forecast is known to be right, and stays shut where the past says nothing."""

import numpy as np
import pytest

from foresight.forecasters import make_forecaster
from foresight.policies.gate import FEWEST, FORECAST, MOST, Gate, question, windows
from foresight.policies.policy import Past
from foresight.policies.targets import make_target
from foresight.trajectory.metrics import overlap
from support.forecasting import walk
from support.simulated import series

K = 6


def gate_of(forecaster, history=()):
    return Gate(forecaster, history, make_target("circuit"))


def past(change, groups=5, noise=0.02):
    return [Past(series(change, 100 + g, noise, [g, r]), f"task{g}") for g in range(groups) for r in range(2)]


def test_a_relay_opens_the_gate_on_the_evidence_of_the_run_alone():
    verdict = gate_of(make_forecaster("damped_drift")).judge(series("relay"), 10, K)
    assert verdict.opens and verdict.gain >= verdict.bound > 0
    assert verdict.windows >= FEWEST and verdict.groups == 0 and verdict.ceiling is None
    assert "forecasts: the forecast has +" in verdict.words and "prior" not in verdict.overlaps


def test_recorded_runs_open_it_early_in_a_run():
    known, seen = past("relay"), series("relay").until(15)
    assert not gate_of(make_forecaster("damped_drift")).judge(seen, 25, K).opens
    verdict = gate_of(make_forecaster("ridge").pretrain([p.series for p in known]), known).judge(seen, 25, K)
    assert verdict.opens and (verdict.windows, verdict.groups) == (0, 5)
    assert "5 groups of recorded runs" in verdict.words and verdict.ceiling is not None


@pytest.mark.parametrize(("change", "best"), [("walk", "persistence"), ("still", "smoothed")])
def test_without_skill_the_best_simple_candidate_is_held(change, best):
    seen = series(change, noise=0.3).until(75)
    verdict = gate_of(make_forecaster("damped_drift"), past(change, 10, 0.3)).judge(seen, 10, K)
    assert (verdict.windows, verdict.groups) == (7, 10)
    assert not verdict.opens and verdict.best == best and f"holds {best}" in verdict.words
    assert verdict.overlaps[best] == max(v for name, v in verdict.overlaps.items() if name != FORECAST)


def test_it_opens_for_nothing_no_more_often_than_its_doubt_allows():
    gate = gate_of(make_forecaster("damped_drift"))
    assert sum(gate.judge(series("walk", seed), 15, K).opens for seed in range(60)) <= 7  # at 5 %, more: 2 %


def test_too_little_evidence_holds_and_says_so():
    gate = gate_of(make_forecaster("damped_drift"))
    nothing = gate.judge(series("relay").until(0), 10, K)
    assert not nothing.opens and nothing.best == "persistence" and "nothing has been forecast yet" in nothing.words
    few = gate.judge(series("relay").until(20), 10, K)
    assert 0 < few.windows < FEWEST and not few.opens and np.isnan(few.gain) and "too few" in few.words


def test_runs_of_one_group_are_never_on_both_sides():
    """A forecaster that knows a run's future by having seen a twin of it gains nothing from that."""

    class Memory(type(make_forecaster("persistence"))):
        def _pretrain(self, histories):
            self.seen_ = histories

        def _predict(self, horizon):
            for known in getattr(self, "seen_", ()):
                if np.array_equal(known.values[:, 0], self.series_.values[:, 0]):
                    return known.until(int(self.series_.steps[-1]) + horizon).values[:, -1]
            return self.series_.values[:, -1]

        def _pretrained_arrays(self):
            return {}

    twins = [Past(s, f"task{g}") for g in range(5) for s in [series("walk", g)] * 2]
    verdict = gate_of(Memory().pretrain([p.series for p in twins]), twins).judge(series("walk", 99).until(50), 10, K)
    assert verdict.overlaps[FORECAST] == verdict.overlaps["persistence"] and not verdict.opens
    assert verdict.ceiling == 1


def test_the_ceiling_is_the_agreement_of_runs_of_one_group():
    a, b, other = series("walk", 1), series("walk", 2), series("walk", 3)
    gate = gate_of(make_forecaster("persistence"), [Past(a, "x"), Past(b, "x"), Past(other, "y")])
    verdict = gate.judge(series("walk", 4).until(50), 10, K)
    assert verdict.ceiling == overlap(a.values[:, 12], b.values[:, 12], K)


def test_windows_do_not_overlap_and_questions_end_with_the_run():
    run = series("walk")
    assert windows(run, 15) == [(2, 5), (5, 8), (8, 11), (11, 14), (14, 17), (17, 20)]
    assert windows(run, 1000) == [] and windows(run.until(5), 5) == []
    assert question(run, 50, 10) == (10, 12) and question(run, 90, 500) == (18, 20)
    assert question(run, 100, 5) is None and question(run, 500, 5) is None


def test_a_long_run_has_no_more_windows_than_are_worth_their_fits(monkeypatch):
    short, long = (walk(t, n=2) for t in (MOST + 2, 2_000))
    found = windows(long, 10)
    gaps = np.diff([target for _, target in found])
    assert len(found) == MOST and found[0] == (1, 2) and found[-1] == (1998, 1999)
    assert all(target == cutoff + 1 for cutoff, target in found) and gaps.max() - gaps.min() <= 1
    bounded = windows(short, 10)
    monkeypatch.setattr("foresight.policies.gate.MOST", 10_000)
    assert bounded == windows(short, 10) == [(i, i + 1) for i in range(1, MOST + 1)]


def test_candidates_are_what_they_are_called():
    run, gate = series("walk"), gate_of(make_forecaster("damped_drift"), past("walk"))
    assert np.array_equal(gate.candidate("static", run), run.values[:, 0])
    assert np.array_equal(gate.candidate("persistence", run), run.values[:, -1])
    assert len(set(zip(run.layer, run.kind, gate.candidate("prior", run), strict=True))) == 6
