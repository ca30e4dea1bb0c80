"""What a target is: which scores a trajectory has to record for it, what of them is forecast, how that ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from scipy.stats import rankdata

from ...common.errors import ConfigError, one_of
from ...forecasters import Forecaster
from ...scoring import SCORERS, make_scorer
from ...scoring.scorer import DAMAGE
from ...trajectory.series import Series

HORIZONS = 4
"""Points on the way to the horizon at which a mean over the way is forecast."""


class Target:
    """Base of all targets. As it is: the run's own scores, at the horizon, the highest first.

    A target splits what was recorded into *parts*, series of magnitudes of one length that are forecast one by one;
    `combine` makes one number a component of their values, by which components are ranked.

    Attributes:
        name: what the target is registered as; "module:Class" until it is.
        scorer: registered scorer whose scores the trajectory must have; None for the one that the run's settings name.
        scorer_params: its parameters.
        measures: the virtual moves that the trajectory must have instead of a scorer's scores (see `VirtualMoves`).
        averaged: it is about the mean over the steps up to the horizon, not about the horizon itself.
        needs_training: before the first step nothing is known.
    """

    name: ClassVar[str]
    scorer: str | None = None
    scorer_params: Mapping[str, Any] = {}
    measures: tuple[str, ...] = ()
    averaged: ClassVar[bool] = False
    needs_training: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}:{cls.__qualname__}"

    def parts(self, series: Series, damage: np.ndarray | None = None) -> tuple[Series, ...]:
        """The series that are forecast.

        Args:
            series: magnitudes of the scorer, or benefit.
            damage: float32 [n_components, n_steps], signed, at the steps of `series` (later ones are cut off), where
                the run measures it.

        Raises:
            ConfigError: something that the target needs was not recorded.
        """
        return (series,)

    def combine(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """One number a component, [n_components], the highest to be trained first, of the values of all parts."""
        return parts[0]

    def check(self, pairs: bool, retained: bool) -> None:
        """Raise ConfigError for a run that cannot record what the target needs.

        Args:
            pairs: the run has contrast pairs; retained: it knows what is to be kept.
        """
        if not pairs and self._needs_pairs():
            raise ConfigError(
                f"target {self.name!r} needs contrast pairs for scorer {self.scorer!r}; give contrast_dataset (columns "
                "clean, corrupted, answer, wrong_answer) or choose another target"
            )
        if DAMAGE in self.measures and not retained:
            raise ConfigError(
                f"target {self.name!r} needs to know what is to be kept; give a retained dataset (setting retained, or "
                "retained_dataset in Python), or set retained_source to 'base'"
            )

    def _needs_pairs(self) -> bool:
        if self.scorer is None:
            return False
        reads_data = SCORERS[one_of(f"scorer of target {self.name!r}", self.scorer, SCORERS)].reads_data
        return reads_data and make_scorer(self.scorer, **self.scorer_params).needs_pairs

    # -- of what was recorded, and of forecasts ------------------------------------------------------------------------

    def at(self, parts: Sequence[Series], snapshot: int) -> np.ndarray:
        """The ranking of one snapshot, [n_components]; -1 is the last."""
        return self.combine([part.values[:, snapshot] for part in parts])

    def realised(self, parts: Sequence[Series], cutoff: int, until: int) -> np.ndarray:
        """What a forecast made at snapshot `cutoff` for snapshot `until` was about, as it came true: [n_components]."""
        if not self.averaged:
            return self.at(parts, until)
        return self.combine([part.values[:, cutoff + 1 : until + 1].mean(1, dtype=np.float64) for part in parts])

    def forecast(self, forecaster: Forecaster, parts: Sequence[Series], horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """The ranking that is expected, and the one at the horizon itself; both [n_components], the same if not
        `averaged`. The mean is that at the ends of `HORIZONS` equal pieces of the way.

        Args:
            forecaster: fitted anew to each part; keeps its pretraining.
            horizon: steps after the last snapshot, >= 1.
        """
        count = min(HORIZONS, horizon) if self.averaged else 1
        ahead = [round(horizon * (i + 1) / count) for i in range(count)]
        means: list[np.ndarray] = []
        last: list[np.ndarray] = []
        for part in parts:
            fitted = forecaster.fit(part)
            found = [fitted.predict(steps) for steps in ahead]
            last.append(found[-1])
            means.append(np.asarray(np.mean(found, axis=0, dtype=np.float64)) if self.averaged else found[-1])
        return self.combine(means), self.combine(last)

    def summary(self, series: Series, damage: np.ndarray | None = None) -> Series:
        """A recorded run as a prior learns from it: only the order of its last values counts."""
        parts = self.parts(series, damage)
        if len(parts) == 1:
            return parts[0]
        return replace(series, values=rankdata(self.at(parts, -1))[:, None], steps=series.steps[-1:], stderr=None)
