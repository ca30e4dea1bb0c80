"""What past runs say about a component of which only layer and kind are known: the control for every forecast.

A component of a past run has as score its rank within that run's last snapshot (0 to 1, equal scores alike). Ranks are
averaged over the components of one layer and kind, then over runs; the layers of a past model count for those of this
model with which they share relative depth (layer l of L spans l/L to (l+1)/L), by the depth they share. Own definition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from ..common.errors import ConfigError
from ..common.files import write_json
from ..trajectory.series import Series
from .policy import Past
from .targets import Target

if TYPE_CHECKING:
    from ..model.components import ComponentTable

VERSION = 1
SHIPPED = Path(__file__).parents[1] / "model" / "shipped" / "prior.json"
"""Learned from the shipped corpus; `eval.shipped_corpus` makes it."""


@dataclass(frozen=True)
class Profile:
    """Mean rank of one kind of component by layer, over runs of models with as many layers.

    Attributes:
        ranks: a number in [0, 1] per layer; None where no component of the kind is.
        overall: mean rank of all components of the kind.
        runs: how many runs it is the mean of.
    """

    kind: str
    ranks: tuple[float | None, ...]
    overall: float
    runs: int


@dataclass(frozen=True)
class LayerKindPrior:
    """Profiles learned from past runs; `learn` makes one, `scores` is what it expects of a model."""

    profiles: tuple[Profile, ...]

    @classmethod
    def learn(cls, histories: Iterable[Series]) -> LayerKindPrior:
        """From series of past runs, of any models. Raises ConfigError if there is none."""
        found: dict[tuple, list[tuple[np.ndarray, float]]] = {}
        for series in histories:
            n_layers = int(series.layer.max()) + 1
            all_ranks = (rankdata(series.values[:, -1]) - 1) / max(1, len(series) - 1)
            for kind in np.unique(series.kind):
                members = series.kind == kind
                layers, ranks = series.layer[members], all_ranks[members]
                count, total = (np.bincount(layers, weights, n_layers) for weights in (None, ranks))
                key = (str(kind), *(count > 0).tolist())
                found.setdefault(key, []).append((total / np.maximum(count, 1), float(ranks.mean())))
        if not found:
            raise ConfigError("a prior needs at least one recorded run to learn from")
        profiles = []
        for (kind, *present), runs in found.items():
            ranks = np.mean([by_layer for by_layer, _ in runs], 0)
            held = tuple(float(rank) if here else None for rank, here in zip(ranks, present, strict=True))
            profiles.append(Profile(kind, held, float(np.mean([mean for _, mean in runs])), len(runs)))
        return cls(tuple(profiles))

    @property
    def kinds(self) -> set[str]:
        """The kinds of components that it knows."""
        return {profile.kind for profile in self.profiles}

    def scores(self, components: ComponentTable | Series) -> np.ndarray:
        """Expected rank of each component, float64 [n_components] in [0, 1]; equal within a layer and kind.

        Raises:
            ConfigError: a kind that no past run has.
        """
        scores = np.empty(len(components))
        n_layers = int(components.layer.max()) + 1
        for kind in np.unique(components.kind):
            known = [profile for profile in self.profiles if profile.kind == kind]
            if not known:
                raise ConfigError(
                    f"the prior knows no component of kind {str(kind)!r}, only of "
                    f"{', '.join(sorted(self.kinds))}; add a run of a model that has it"
                )
            means = np.average([_at_depth(p, n_layers) for p in known], axis=0, weights=[p.runs for p in known])
            members = components.kind == kind
            scores[members] = means[components.layer[members]]
        return np.round(scores, 12)  # sums in another order must not break ties

    def write(self, path: str | Path) -> None:
        """Write it as JSON, about a hundred bytes per profile."""
        write_json(path, {"version": VERSION, "profiles": [asdict(profile) for profile in self.profiles]})

    @classmethod
    def read(cls, path: str | Path) -> LayerKindPrior:
        """Inverse of `write`, for the file that ships: nothing is checked."""
        profiles = json.loads(Path(path).read_text())["profiles"]
        return cls(tuple(Profile(**{**profile, "ranks": tuple(profile["ranks"])}) for profile in profiles))


def learned(history: Sequence[Past], target: Target) -> LayerKindPrior:
    """The prior of recorded runs, as a target ranks components."""
    return LayerKindPrior.learn(target.summary(past.series, past.damage) for past in history)


def _at_depth(profile: Profile, n_layers: int) -> np.ndarray:
    """Ranks [n_layers] of a profile, its layers mapped to `n_layers` by depth."""
    own = len(profile.ranks)
    mean = np.array([rank or 0.0 for rank in profile.ranks])
    present = np.array([rank is not None for rank in profile.ranks])
    edges, own_edges = np.arange(n_layers + 1) * own, np.arange(own + 1) * n_layers  # exact, as integers
    shared = np.minimum(edges[1:, None], own_edges[1:]) - np.maximum(edges[:-1, None], own_edges[:-1])
    shared = shared.clip(0) * present
    return np.where(shared.any(1), shared @ mean / np.maximum(shared.sum(1), 1), profile.overall)
