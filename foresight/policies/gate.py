"""The gate: is a forecast worth more here than the best simple mask? It judges by what each would have had so far.

Questions that time has answered are asked again: which components were critical `horizon` steps after an earlier
cutoff, in this run (one window after the other, without overlap) and in recorded runs (at the step that this run has
reached; the forecaster and the prior have then learned from the runs of other groups only). A forecast is believed
when its overlap with the circuit exceeds that of the best simple candidate beyond doubt; otherwise the best simple
candidate is held. All candidates see the same questions. The circuit is that of the forecast's target: the components
that the target, as it came true, ranks highest. Own definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import stats

from ..forecasters import Forecaster, make_forecaster
from ..trajectory.metrics import overlap
from ..trajectory.series import Series
from .policy import Past
from .prior import LayerKindPrior
from .targets import Target
from .targets.circuit import Circuit
from .verdict import FEWEST, Verdict

FORECAST = "forecast"
SIMPLE = ("persistence", "smoothed", "static", "prior")
"""Candidates that need no forecast, in the order in which equals are preferred: the circuit of the last snapshot, of
the mean of log scores so far, of the first snapshot, and by layer and kind alone."""
FOLDS = 3
DOUBT = 0.05
"""One-sided error of the t-interval whose lower end has to exceed zero."""


class Gate:
    """Judges one forecaster; learns from recorded runs once.

    Args:
        forecaster: pretrained on all of `history`, if it learns from past runs.
        history: recorded runs.
        target: what the forecast is of; by default the run's scores at the horizon.
    """

    def __init__(self, forecaster: Forecaster, history: Sequence[Past] = (), target: Target | None = None):
        self.forecaster, self.history, self.target = forecaster, list(history), target or Circuit()
        self.prior = _prior(self.target, self.history)
        groups = sorted({past.group for past in self.history})
        self._folds = [
            _Fold(forecaster, self.history, set(groups[i::FOLDS]), self.target) for i in range(min(FOLDS, len(groups)))
        ]
        self._folds = [fold for fold in self._folds if fold.prior is not None]

    def judge(self, seen: Series, horizon: int, k: int, damage: np.ndarray | None = None) -> Verdict:
        """Whether to forecast `horizon` steps ahead from the snapshots `seen`; k is the size of the circuit.

        Args:
            damage: as for `Target.parts`, where the target needs it.
        """
        parts = self.target.parts(seen, damage)
        own = [self._overlaps(parts, *pair, k, self.forecaster, self.prior) for pair in windows(seen, horizon)]
        groups: dict[str, list[dict[str, float]]] = {}
        reached = int(seen.steps[-1] - seen.steps[0])
        for fold in self._folds:
            for past in fold.left_out:
                pair = question(past.series, reached, horizon)
                if pair is not None and len(past.series) >= k:
                    parts = self.target.parts(past.series, past.damage)
                    found = self._overlaps(parts, *pair, k, fold.forecaster, fold.prior)
                    groups.setdefault(past.group, []).append(found)
        units = [*own, *(_mean(rows) for rows in groups.values())]
        # Without past runs there is no prior; a candidate that some units lack cannot be compared with the others.
        known = [name for name in (FORECAST, *SIMPLE) if units and all(name in unit for unit in units)]
        means = {name: float(np.mean([unit[name] for unit in units])) for name in known}
        best = max((name for name in SIMPLE if name in means), key=means.__getitem__, default=SIMPLE[0])
        gains = np.array([unit[FORECAST] - unit[best] for unit in units])
        gain, bound = float("nan"), float("nan")
        if len(units) >= FEWEST:
            gain = float(gains.mean())
            bound = gain - float(stats.t.ppf(1 - DOUBT, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))
        ceiling = self._ceiling(reached, horizon, k)
        return Verdict(bound > 0, best, means, gain, bound, len(own), len(groups), ceiling)

    def candidate(self, name: str, seen: Series, damage: np.ndarray | None = None) -> np.ndarray:
        """Scores [n_components] of a simple candidate after the snapshots `seen`."""
        return self._simple(name, self.target.parts(seen, damage), self.prior)

    def _ceiling(self, reached: int, horizon: int, k: int) -> float | None:
        found: list[float] = []
        for a, b in combinations(self.history, 2):
            pairs = [question(past.series, reached, horizon) for past in (a, b)]
            if a.group == b.group and pairs[0] and pairs[0] == pairs[1] and len(a.series) == len(b.series) >= k:
                both = [self.target.parts(past.series, past.damage) for past in (a, b)]
                one, other = (self.target.realised(parts, *pairs[0]) for parts in both)
                found.append(overlap(one, other, k))
        return float(np.mean(found)) if found else None

    def _overlaps(
        self,
        parts: Sequence[Series],
        cutoff: int,
        until: int,
        k: int,
        forecaster: Forecaster,
        prior: LayerKindPrior | None,
    ) -> dict[str, float]:
        steps = parts[0].steps
        actual = self.target.realised(parts, cutoff, until)
        seen = [part.until(int(steps[cutoff])) for part in parts]
        prediction, _ = self.target.forecast(forecaster.unfitted(), seen, int(steps[until] - steps[cutoff]))
        found = {FORECAST: overlap(prediction, actual, k)}
        for name in SIMPLE:
            if name != "prior" or prior is not None:
                found[name] = overlap(self._simple(name, seen, prior), actual, k)
        return found

    def _simple(self, name: str, seen: Sequence[Series], prior: LayerKindPrior | None) -> np.ndarray:
        if name == "smoothed":
            return self.target.combine([make_forecaster("mean").fit(part).predict(1) for part in seen])
        if name == "prior":
            assert prior is not None  # it is only a candidate where there is one
            return prior.scores(seen[0])
        return self.target.at(seen, 0 if name == "static" else -1)


class _Fold:
    """The runs of some groups, and what was learned from those of all others."""

    def __init__(self, forecaster: Forecaster, history: Sequence[Past], left_out: set[str], target: Target):
        self.left_out = [past for past in history if past.group in left_out]
        others = [past for past in history if past.group not in left_out]
        self.prior = _prior(target, others)
        self.forecaster = forecaster.unfitted()
        if others and forecaster.learns_from_past():
            self.forecaster.pretrain([part for past in others for part in target.parts(past.series, past.damage)])


def windows(series: Series, horizon: int) -> list[tuple[int, int]]:
    """Pairs (cutoff, target) of snapshots, `horizon` steps apart or a little more, one after the other up to the last.

    A cutoff has at least one snapshot before it, as a forecast needs one.
    """
    found: list[tuple[int, int]] = []
    target = len(series.steps) - 1
    while True:
        cutoff = int(np.searchsorted(series.steps, series.steps[target] - horizon, side="right")) - 1
        if cutoff < 1:
            return found[::-1]
        found.append((cutoff, target))
        target = cutoff


def question(series: Series, reached: int, horizon: int) -> tuple[int, int] | None:
    """The pair (cutoff, target) of a recorded run `reached` steps after its start; None if it is too short.

    The target is the first snapshot at least `horizon` steps later, or the last one there is.
    """
    cutoff = int(np.searchsorted(series.steps, series.steps[0] + reached, side="right")) - 1
    target = min(int(np.searchsorted(series.steps, series.steps[cutoff] + horizon)), len(series.steps) - 1)
    return (cutoff, target) if cutoff < target else None


def _prior(target: Target, runs: Sequence[Past]) -> LayerKindPrior | None:
    return LayerKindPrior.learn(target.summary(past.series, past.damage) for past in runs) if runs else None


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
