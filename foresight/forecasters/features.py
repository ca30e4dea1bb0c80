"""What a pooled regressor sees of a component, in units that mean the same in every run (own definitions).

Seen from an origin i, z at any step is the relative log score (relative.py) minus its mean over the components of that
step, divided by its standard deviation over components at the origin (at least MIN_SPREAD). A change that all
components share is thus left out: it does not alter which of them are critical. Time is in cadences, the median number
of optimizer steps between snapshots. Values between two snapshots are interpolated; before the first snapshot, its
value holds.

Nothing at an origin i depends on snapshots after i, apart from the cadence.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from ..trajectory.series import Series
from .relative import canonical_order, from_relative, to_relative

MIN_SPREAD = 0.05
"""A smaller standard deviation counts as this one, so that differences between nearly equal scores stay small."""
KINDS = ("head", "kv", "mlp")
LAGS = (1, 2, 4)
SLOPE_WINDOW = 5
FEATURES = (
    "z",
    "z - mean of z so far",
    *(f"z - z {lag} cadences ago" for lag in LAGS),
    f"least-squares slope of z over the last {SLOPE_WINDOW} snapshots",
    "z - mean of z over the same layer and kind",
    "rank within the kind",
    "depth",
    *(f"is {kind}" for kind in KINDS),
    "log(1 + cadences since the first snapshot)",
)
"""Names of the columns. Saved pretraining holds such columns: a change here must raise forecaster.STATE_VERSION."""
MAX_ORIGINS = 12
GAPS = (1, 2, 4, 8, 16, 32, 64)
"""How many snapshots ahead training windows reach."""


class Frame:
    """A series in scale-free form, its components in canonical order.

    Attributes:
        centred: float32 [n, t], relative log scores minus the mean of their step.
        unit: float32 [t], 1 / standard deviation over components.
        time: float64 [t] in cadences.
        cadence: optimizer steps.
        fixed: float32 [n, 1 + len(KINDS)], depth and kind of the components.
    """

    def __init__(self, series: Series):
        order = canonical_order(series)
        self._given, series = np.argsort(order), series.take(order)
        self.cadence = series.cadence
        self.time = (series.steps - series.steps[0]) / self.cadence
        logs, levels = to_relative(series.values)
        self._last, self._level = logs[:, -1].copy(), levels[-1]
        logs -= logs.mean(0, dtype=np.float64).astype(np.float32)
        std = np.sqrt(np.einsum("nt,nt->t", logs, logs, dtype=np.float64) / len(logs))
        self.unit = (1 / np.maximum(std, MIN_SPREAD)).astype(np.float32)
        self.centred = logs
        layer, kind = np.unique(series.layer, return_inverse=True)[1], np.unique(series.kind, return_inverse=True)[1]
        self._kind, self._group = kind, np.unique(layer * (kind.max() + 1) + kind, return_inverse=True)[1]
        depth = series.layer / max(1, int(series.layer.max()))
        self.fixed = np.column_stack([depth, *(series.kind == name for name in KINDS)]).astype(np.float32)

    def at(self, origin: int, rows: np.ndarray) -> np.ndarray:
        """Features float32 [len(rows), len(FEATURES)] of the given components at snapshot `origin`."""
        z = self.centred[rows, : origin + 1] * self.unit[origin]
        now = self.centred[:, origin] * self.unit[origin]
        lags = [z[:, origin] - self._before(z, origin, lag) for lag in LAGS]
        window = slice(max(0, origin + 1 - SLOPE_WINDOW), origin + 1)
        time = self.time[window] - self.time[window].mean()
        slope = z[:, window] @ (time / max(1e-9, (time**2).sum())).astype(np.float32)
        group = np.bincount(self._group, now) / np.bincount(self._group)
        columns = [
            z[:, origin],
            z[:, origin] - z.mean(1),
            *lags,
            slope,
            z[:, origin] - group[self._group[rows]],
            self._ranks_by_kind(now)[rows],
            *self.fixed[rows].T,
            np.full(len(rows), np.log1p(self.time[origin])),
        ]
        return np.column_stack(columns).astype(np.float32)

    def scores(self, change: np.ndarray) -> np.ndarray:
        """Scores [n], in the order of the series, after z has changed by `change` [n] since the last snapshot."""
        return from_relative(self._last + change / self.unit[-1], self._level)[self._given]

    def _before(self, z: np.ndarray, origin: int, lag: float) -> np.ndarray:
        """z at `lag` cadences before the origin, from snapshots up to the origin."""
        position = np.interp(self.time[origin] - lag, self.time[: origin + 1], np.arange(origin + 1))
        left = int(position)
        right = min(left + 1, origin)
        share = np.float32(position - left)
        return (1 - share) * z[:, left] + share * z[:, right]

    def _ranks_by_kind(self, now: np.ndarray) -> np.ndarray:
        """Ranks within the kind, in (-.5, .5): larger values higher, equal ones alike."""
        ranks = np.empty(len(now))
        for kind in range(self._kind.max() + 1):
            members = self._kind == kind
            ranks[members] = (rankdata(now[members]) - 0.5) / members.sum() - 0.5
        return ranks


def windows(frame: Frame, max_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training examples from within a series: (features [m, p], horizons [m] in cadences, changes of z [m]), float32.

    Origins are up to MAX_ORIGINS snapshots, evenly spread over all but the first and last; each has a window for every
    one of GAPS that the series is long enough for. If that makes more than `max_rows` examples, each origin uses a
    random share of the components, drawn with a fixed seed.
    """
    n, t = frame.centred.shape
    origins = np.unique(np.linspace(1, t - 2, min(MAX_ORIGINS, max(0, t - 2))).round().astype(int))
    pairs = {int(i): [i + gap for gap in GAPS if i + gap < t] for i in origins}
    n_pairs = sum(len(ends) for ends in pairs.values())
    share = min(n, max_rows // max(1, n_pairs))
    rng = np.random.default_rng(0)
    features, horizons, targets = [np.zeros((0, len(FEATURES)), np.float32)], [np.zeros(0)], [np.zeros(0)]
    for origin, ends in pairs.items():
        rows = np.arange(n) if share == n else np.sort(rng.permutation(n)[:share])
        seen = frame.at(origin, rows)
        for end in ends:
            features.append(seen)
            horizons.append(np.full(len(rows), frame.time[end] - frame.time[origin]))
            targets.append((frame.centred[rows, end] - frame.centred[rows, origin]) * frame.unit[origin])
    ahead, changes = np.concatenate(horizons).astype(np.float32), np.concatenate(targets).astype(np.float32)
    return np.concatenate(features), ahead, changes
