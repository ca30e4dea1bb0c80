"""Stacking (Wolpert 1992): a mean of several forecasters, each weighted by its past skill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.base import clone

from ..common.errors import ConfigError
from ..trajectory.metrics import skill
from ..trajectory.series import Series
from . import make_forecaster, register
from .forecaster import Forecaster, saved_array
from .relative import canonical_order, sample

CUTOFFS = 3
"""Cutoffs in a run at which the members are judged."""
FOLDS = 3
MAX_ROWS = 500
"""Components on which they are judged."""


@register("stacking")
class Stacking(Forecaster):
    """The mean of its members' forecasts, weighted by their past skill (own definition of the weights).

    Skill is 1 - error / error of persistence (`foresight.trajectory.metrics.skill`), at least -1, one snapshot ahead
    and at the last snapshot, from cutoffs in the second half of this run and of past runs. Past runs with the same
    first snapshot began as one model on one task: their skills are averaged, and a member is judged on them after
    learning from the other runs only. A member's weight is proportional to its mean skill minus one standard error
    over groups of past runs and forecasts in this run, at least 0; it is 0 while the member itself falls back to
    persistence. The weights sum to 1. When no member has a weight, the forecast is persistence. Members see no standard
    errors: no recorded run has shown yet that weighing by them wins.

    Args:
        members: names of forecasters, or forecasters.

    Attributes:
        members_: the fitted members.
        weights_: float64 [n_members], >= 0; sums to 1, or all 0 when it abstains.
    """

    def __init__(self, members: Sequence[str | Forecaster] = ("smoothing", "local_level", "damped_drift")):
        self.members = members

    def _check_params(self) -> None:
        if isinstance(self.members, str) or not len(self.members):
            raise ConfigError(f"forecaster {self.name!r}: members is {self.members!r}; expected names of forecasters")
        for member in self.members:
            _build(member)._check_params()

    def _pretrain(self, histories: list[Series]) -> None:
        # Runs with one first snapshot began as one model on one probe: a member that has learned from one of them has
        # as good as seen the others, so they are left out together and count as one piece of evidence.
        twins: dict[bytes, list[Series]] = {}
        histories = [replace(series, stderr=None) for series in histories]
        for series in histories:
            twins.setdefault(series.values[:, 0].tobytes(), []).append(series)
        groups = list(twins.values())
        rows = []
        for i in range(min(FOLDS, len(groups))):
            others = [series for j, group in enumerate(groups) if j % FOLDS != i for series in group]
            members = self._taught(others)
            for group in groups[i::FOLDS]:
                found = np.concatenate([_skills(members, _thin(series)) for series in group])
                rows += [found.mean(0)] if len(found) else []
        # Past runs that are too short to judge anyone have shown no skill.
        self.past_skills_ = np.array(rows) if rows else np.zeros((1, len(self.members)))
        self._pretrained_members = self._taught(histories)

    def _fit(self, series: Series) -> None:
        series = replace(series, stderr=None)
        members = getattr(self, "_pretrained_members", None) or self._taught([])
        skills = _skills(members, _thin(series))
        if hasattr(self, "past_skills_"):
            skills = np.concatenate([self.past_skills_, skills])
        self.weights_ = _worth(skills)
        self.members_ = members
        for i in np.flatnonzero(self.weights_):
            if members[i].fit(series).fallback_:
                self.weights_[i] = 0
        if self.weights_.any():
            self.weights_ /= self.weights_.sum()
        else:
            self.fallback_ = f"persistence: no member that can forecast yet has shown skill in {len(skills)} judgements"

    def _predict(self, horizon: int) -> np.ndarray:
        pairs = zip(self.members_, self.weights_, strict=True)
        return np.sum([weight * member.predict(horizon) for member, weight in pairs if weight], 0)

    def _taught(self, histories: list[Series]) -> list[Forecaster]:
        members = [_build(member) for member in self.members]
        return [member.pretrain(histories) if histories else member for member in members]

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "past_skills_"):
            return {}
        arrays = {"skills": self.past_skills_}
        for i, member in enumerate(self._pretrained_members):
            arrays |= {f"{i}.{key}": array for key, array in member._pretrained_arrays().items()}
        return arrays

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        shape = (max(1, len(arrays.get("skills", ()))), len(self.members))
        skills = saved_array(arrays, "skills", np.float64, shape, -1, 1)
        members = self._taught([])
        for i, member in enumerate(members):
            keys = [key for key in arrays if key.startswith(f"{i}.")]
            member._load_all_pretrained({key.removeprefix(f"{i}."): arrays.pop(key) for key in keys})
        self.past_skills_, self._pretrained_members = skills, members


def _build(member: str | Forecaster) -> Forecaster:
    """A fresh forecaster of a name, or an unfitted copy of one. Raises ConfigError for anything else."""
    if isinstance(member, Forecaster):
        return clone(member)
    if isinstance(member, str):
        return make_forecaster(member)
    raise ConfigError(f"{member!r} is not a forecaster; expected a name or a Forecaster")


def _thin(series: Series) -> Series:
    """At most MAX_ROWS components of a series, in canonical order: enough to judge a forecaster."""
    return series.take(canonical_order(series)[sample(len(series), MAX_ROWS)])


def _skills(members: list[Forecaster], series: Series) -> np.ndarray:
    """Skill of each member in each past forecast, float64 [forecasts, n_members], in [-1, 1]."""
    last = len(series.steps) - 1
    cutoffs = {round(cutoff) for cutoff in np.linspace(max(1, last // 2), last - 1, CUTOFFS)} if last > 1 else set()
    pairs = [(cutoff, target) for cutoff in sorted(cutoffs) for target in sorted({cutoff + 1, last})]
    table = np.zeros((len(pairs), len(members)))
    for j, member in enumerate(members):
        twin, fitted_at = member.unfitted(), -1
        for i, (cutoff, target) in enumerate(pairs):
            if cutoff != fitted_at:
                twin.fit(series.until(int(series.steps[cutoff])))
                fitted_at = cutoff
            prediction = twin.predict(int(series.steps[target] - series.steps[cutoff]))
            table[i, j] = max(-1.0, skill(prediction, series.values[:, target], series.values[:, cutoff]))
    return table


def _worth(skills: np.ndarray) -> np.ndarray:
    """Weights [n_members], not yet summing to 1, from skills [forecasts, n_members]; a single one proves nothing."""
    if len(skills) < 2:
        return np.zeros(skills.shape[1])
    return np.maximum(0, skills.mean(0) - skills.std(0, ddof=1) / np.sqrt(len(skills)))
