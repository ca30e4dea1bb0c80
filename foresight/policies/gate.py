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
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from ..forecasters import Forecaster, make_forecaster
from ..trajectory.metrics import overlap
from ..trajectory.series import Series
from .policy import Past
from .prior import LayerKindPrior, learned
from .targets import Target

FORECAST = "forecast"
SIMPLE = ("persistence", "smoothed", "static", "prior")
"""Candidates that need no forecast, in the order in which equals are preferred: the circuit of the last snapshot, of
the mean of log scores so far, of the first snapshot, and by layer and kind alone."""
FOLDS = 3
DOUBT = 0.05
"""One-sided error of the t-interval whose lower end has to exceed zero."""
FEWEST = 3
"""Units of evidence (windows of this run, groups of recorded ones) below which nothing is certain."""
MOST = 50
"""Windows of this run that are judged, evenly over its past: each costs a fit of the forecaster."""


@dataclass(frozen=True)
class Verdict:
    """What the gate found.

    Attributes:
        opens: the forecast is believed.
        best: the best simple candidate, which is held if not.
        overlaps: mean overlap with the circuit of each candidate that could be judged; empty without evidence.
        gain, bound: of the forecast over `best`, and the lower end of its interval; NaN without enough evidence.
        windows, groups: units of evidence from this run and from recorded ones.
        ceiling: mean overlap of two recorded runs of one group at the same step; None if there are none.
    """

    opens: bool
    best: str
    overlaps: dict[str, float]
    gain: float
    bound: float
    windows: int
    groups: int
    ceiling: float | None

    @property
    def words(self) -> str:
        """One sentence for the log."""
        if not self.overlaps:
            return f"holds {self.best}: nothing has been forecast yet that time has answered"
        evidence = f"{self.windows} windows of this run and {self.groups} groups of recorded runs"
        known = ", ".join(f"{name} {value:.2f}" for name, value in self.overlaps.items())
        ceiling = "" if self.ceiling is None else f"; two runs of one group {self.ceiling:.2f}"
        if self.windows + self.groups < FEWEST:
            return f"holds {self.best}: {evidence} are too few to judge by (overlaps: {known}{ceiling})"
        verb = "forecasts" if self.opens else f"holds {self.best}"
        return (
            f"{verb}: the forecast has {self.gain:+.3f} of the circuit over {self.best}, at least {self.bound:+.3f}, "
            f"by {evidence} (overlaps: {known}{ceiling})"
        )


@dataclass(frozen=True)
class _Taught:
    """A forecaster and a prior that have learned from the same runs, and runs that neither has seen."""

    forecaster: Forecaster
    prior: LayerKindPrior | None
    unseen: Sequence[Past] = ()


class Gate:
    """Judges one forecaster; learns from recorded runs once.

    Args:
        forecaster: pretrained on all of `history`, if it learns from past runs.
        history: recorded runs.
        target: what the forecast is of.
    """

    def __init__(self, forecaster: Forecaster, history: Sequence[Past], target: Target):
        self.history, self.target = history, target
        self._own = _Taught(forecaster, learned(history, target) if history else None)
        groups = sorted({past.group for past in history})
        folds = min(FOLDS, len(groups)) if len(groups) > 1 else 0  # one group leaves none to learn from
        self._folds = [self._taught_without(groups[i::FOLDS]) for i in range(folds)]

    def judge(self, seen: Series, horizon: int, k: int, damage: np.ndarray | None = None) -> Verdict:
        """Whether to forecast `horizon` steps ahead from the snapshots `seen`; k is the size of the circuit.

        Args:
            damage: as for `Target.parts`, where the target needs it.
        """
        parts = self.target.parts(seen, damage)
        own = [self._overlaps(self._own, parts, *pair, k) for pair in windows(seen, horizon)]
        groups: dict[str, list[dict[str, float]]] = {}
        reached = int(seen.steps[-1] - seen.steps[0])
        for fold in self._folds:
            for past in fold.unseen:
                pair = question(past.series, reached, horizon)
                if pair is not None and len(past.series) >= k:
                    found = self._overlaps(fold, self.target.parts(past.series, past.damage), *pair, k)
                    groups.setdefault(past.group, []).append(found)
        units = [*own, *map(_means, groups.values())]
        means = _means(units) if units else {}
        best = max((name for name in SIMPLE if name in means), key=means.__getitem__, default=SIMPLE[0])
        gain, bound = float("nan"), float("nan")
        if len(units) >= FEWEST:
            gains = np.array([unit[FORECAST] - unit[best] for unit in units])
            gain = float(gains.mean())
            bound = gain - float(stats.t.ppf(1 - DOUBT, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))
        ceiling = self._ceiling(reached, horizon, k)
        return Verdict(bound > 0, best, means, gain, bound, len(own), len(groups), ceiling)

    def candidate(self, name: str, seen: Series, damage: np.ndarray | None = None) -> np.ndarray:
        """Scores [n_components] of a simple candidate after the snapshots `seen`."""
        return self._simple(name, self.target.parts(seen, damage), self._own.prior)

    def _taught_without(self, groups: Sequence[str]) -> _Taught:
        others = [past for past in self.history if past.group not in groups]
        forecaster = taught(self._own.forecaster.unfitted(), others, self.target)
        return _Taught(
            forecaster, learned(others, self.target), [past for past in self.history if past.group in groups]
        )

    def _ceiling(self, reached: int, horizon: int, k: int) -> float | None:
        found: list[float] = []
        for a, b in combinations(self.history, 2):
            pairs = [question(past.series, reached, horizon) for past in (a, b)]
            if a.group == b.group and pairs[0] and pairs[0] == pairs[1] and len(a.series) == len(b.series) >= k:
                both = [self.target.parts(past.series, past.damage) for past in (a, b)]
                one, other = (self.target.realised(parts, *pairs[0]) for parts in both)
                found.append(overlap(one, other, k))
        return float(np.mean(found)) if found else None

    def _overlaps(self, asked: _Taught, parts: Sequence[Series], cutoff: int, until: int, k: int) -> dict[str, float]:
        """Overlap with the circuit at snapshot `until` of each candidate, from the snapshots up to `cutoff`."""
        steps = parts[0].steps
        actual = self.target.realised(parts, cutoff, until)
        seen = [part.until(int(steps[cutoff])) for part in parts]
        prediction, _ = self.target.forecast(asked.forecaster.unfitted(), seen, int(steps[until] - steps[cutoff]))
        names = [name for name in SIMPLE if name != "prior" or asked.prior is not None]
        return {FORECAST: overlap(prediction, actual, k)} | {
            name: overlap(self._simple(name, seen, asked.prior), actual, k) for name in names
        }

    def _simple(self, name: str, seen: Sequence[Series], prior: LayerKindPrior | None) -> np.ndarray:
        if name == "smoothed":
            return self.target.combine([make_forecaster("mean").fit(part).predict(1) for part in seen])
        if name == "prior":
            assert prior is not None  # it is only a candidate where there is one
            return prior.scores(seen[0])
        return self.target.at(seen, 0 if name == "static" else -1)


def taught(forecaster: Forecaster, runs: Sequence[Past], target: Target) -> Forecaster:
    """The forecaster, pretrained on what the target forecasts of recorded runs."""
    return forecaster.pretrain([part for past in runs for part in target.parts(past.series, past.damage)])


def windows(series: Series, horizon: int) -> list[tuple[int, int]]:
    """Pairs (cutoff, target) of snapshots, `horizon` steps apart or a little more, one after the other up to the last.

    A cutoff has at least one snapshot before it, as a forecast needs one. Of more than MOST windows, MOST are returned,
    evenly over the past, the first and the last among them.
    """
    found: list[tuple[int, int]] = []
    target = len(series.steps) - 1
    while True:
        cutoff = int(np.searchsorted(series.steps, series.steps[target] - horizon, side="right")) - 1
        if cutoff < 1:
            return [found[i] for i in np.linspace(len(found) - 1, 0, min(len(found), MOST)).round().astype(int)]
        found.append((cutoff, target))
        target = cutoff


def question(series: Series, reached: int, horizon: int) -> tuple[int, int] | None:
    """The pair (cutoff, target) of a recorded run `reached` steps after its start; None if it is too short.

    The target is the first snapshot at least `horizon` steps later, or the last one there is.
    """
    cutoff = int(np.searchsorted(series.steps, series.steps[0] + reached, side="right")) - 1
    target = min(int(np.searchsorted(series.steps, series.steps[cutoff] + horizon)), len(series.steps) - 1)
    return (cutoff, target) if cutoff < target else None


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean over rows of each candidate that all of them have: without past runs there is no prior to compare with."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if all(name in row for row in rows)}
