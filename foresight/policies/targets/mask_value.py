"""The value of a mask, learned from the outcomes of past runs: which masks have led to the lowest outcomes?

A linear regression (ridge, its strength chosen by leave-one-out error; scikit-learn) of a run's outcome on features of
its mask. Both are taken relative to their mean over the runs of the same group, so that the difficulty of a task, which
no mask can change, drops out. What that is worth is measured by leaving one group out after the other: R^2 is
1 - (squared error of the predictions) / (squared deviation of the outcomes from their group's mean), over all runs left
out, so that knowing nothing has 0. By chance it can be above 0 a little, so it counts only if the error is lower in
the groups beyond doubt, too. Definition and features are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ...common.errors import ConfigError
from ...masks.masks import Mask
from ...masks.selection import head_share_of, select
from ...trajectory.series import Series
from .outcomes import Outcome

FEATURES = (
    "head_share",
    "depth",
    "depth_spread",
    "static_share",
    "prior_overlap",
    "mean_rank",
    "layers",
    "lowest_layer",
)
"""Of a mask, in order; shares are of vectors, depth is layer / (number of layers - 1):

- head_share: share that heads and KV groups have;
- depth, depth_spread: mean depth of the vectors, and its standard deviation;
- static_share: score before training that the mask holds, relative to that of the static mask of its size;
- prior_overlap: share that it has in common with the prior's mask of its size;
- mean_rank: mean rank of its components by score before training, 0 (lowest) to 1;
- layers: share of the layers that it touches; lowest_layer: the depth of the lowest one (which sets the cost).
"""
PENALTIES = tuple(np.logspace(-1, 4, 11))
"""Strengths of the ridge penalty to choose from, for standardised features."""
FEWEST = 2
"""Runs of a group, and groups, below which there is nothing to compare."""

DOUBT = 0.05
"""One-sided level of the t-test over groups that the error is lower than without the regression."""

Expected = Callable[[Series], np.ndarray]
"""A prior: the scores [n_components] that it expects of a model's components."""


@dataclass(frozen=True)
class MaskValue:
    """A fitted regression; `learn` makes one.

    Attributes:
        r2: by leaving groups out; p: of the t-test over these groups; runs, groups: that it was learned from.
    """

    model: Pipeline
    prior: Expected
    r2: float
    p: float
    runs: int
    groups: int

    @classmethod
    def learn(cls, outcomes: Sequence[Outcome], prior: Expected) -> MaskValue:
        """Learn from runs; those that are alone in their group say nothing and are left out.

        Raises:
            ConfigError: fewer than FEWEST groups of FEWEST runs.
        """
        groups = {one.group: [o for o in outcomes if o.group == one.group] for one in outcomes}
        groups = {name: runs for name, runs in groups.items() if len(runs) >= FEWEST}
        if len(groups) < FEWEST:
            raise ConfigError(
                f"the value of a mask is learned from at least {FEWEST} groups (tasks) of at least {FEWEST} runs each; "
                f"of {len(outcomes)} outcomes, {len(groups)} groups are as large"
            )
        x = [_centred(np.array([features(o.mask, o.before, prior) for o in runs])) for runs in groups.values()]
        y = [_centred(np.array([o.outcome for o in runs])) for runs in groups.values()]
        saved: list[np.ndarray] = []  # squared error that the regression saves, by run
        for i in range(len(groups)):
            model = _fitted(x[:i] + x[i + 1 :], y[:i] + y[i + 1 :])
            saved.append(np.square(y[i]) - np.square(y[i] - _centred(model.predict(x[i]))))
        spread = float(sum(np.square(one).sum() for one in y))
        r2 = float(sum(one.sum() for one in saved)) / spread if spread > 0 else 0.0  # equal outcomes teach nothing
        p = float(stats.ttest_1samp([one.mean() for one in saved], 0, alternative="greater").pvalue)
        return cls(_fitted(x, y), prior, r2, p if spread > 0 else 1.0, sum(map(len, y)), len(groups))

    @property
    def known(self) -> bool:
        """Whether it knows anything of groups that it has not seen."""
        return self.r2 > 0 and self.p < DOUBT

    def predict(self, masks: Sequence[Mask], before: Series) -> np.ndarray:
        """Outcomes to expect, relative to each other: float64 [n_masks], the lower the better."""
        return self.model.predict(np.array([features(mask, before, self.prior) for mask in masks]))


def features(mask: Mask, before: Series, prior: Expected) -> np.ndarray:
    """FEATURES of a mask: float64 [n_features].

    Args:
        before: the scores before training, in its first snapshot.
    """
    members = list(mask.components)
    scores, vectors = before.values[:, 0].astype(np.float64), before.vectors[members]
    size, layers = int(vectors.sum()), int(before.layer.max()) + 1
    depth = before.layer[members] / max(1, layers - 1)
    mean = float(np.average(depth, weights=vectors))
    best = float(scores[list(select(scores, before, size).components)].sum())
    shared = np.intersect1d(members, select(prior(before), before, size).components)
    ranks = (rankdata(scores) - 1) / max(1, len(before) - 1)
    return np.array(
        [
            head_share_of(mask, before),
            mean,
            float(np.sqrt(np.average(np.square(depth - mean), weights=vectors))),
            float(scores[members].sum()) / best if best > 0 else 1.0,
            float(before.vectors[shared].sum()) / size,
            float(ranks[members].mean()),
            len(np.unique(before.layer[members])) / layers,
            float(depth.min()),
        ]
    )


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(0)


def _fitted(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> Pipeline:
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(np.concatenate(x), np.concatenate(y))
