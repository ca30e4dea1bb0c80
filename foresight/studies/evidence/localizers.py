"""Localizers: each says how much the heads of a model have to do with a behaviour.

Packages offer their own under the entry-point group `foresight.evidence.localizers`; users name theirs as
`module:Class`. A localizer imports what it computes with when it is asked for scores, so that names and settings can be
checked without torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...common.errors import ConfigError, DataError
from ...common.plugins import Registry
from .intervention import head_names, head_taps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ...model.components import ComponentTable
    from .preferences import Behaviour


@dataclass(frozen=True)
class Case:
    """A model and a behaviour. A localizer must not look at the test questions."""

    model: Any
    table: ComponentTable
    tokenizer: PreTrainedTokenizerBase
    behaviour: Behaviour
    seed: int = 0


class Localizer(ABC):
    """Base of all localizers: `scores` says how much each head matters. Its settings are its constructor's keywords."""

    name: ClassVar[str]

    @abstractmethod
    def scores(self, case: Case) -> Mapping[str, float] | np.ndarray:
        """One number per head, higher for heads that matter more: by name (heads left out come last), or in model
        order.
        """

    def rank(self, case: Case) -> list[str]:
        """The heads, those that matter most first; ties in model order.

        Raises:
            ConfigError, DataError: the case lacks what this localizer needs.
        """
        names = head_names(case.table)
        found = self.scores(case)
        if isinstance(found, Mapping):
            names = [name for name in names if name in found]
            found = np.array([found[name] for name in names])
        return [names[i] for i in np.argsort(-found, kind="stable")]


REGISTRY = Registry(
    "localizer",
    Localizer,
    "foresight.studies.evidence.localizers",
    (),
    group="foresight.evidence.localizers",
)
register = REGISTRY.register
"""Class decorator: make a `Localizer` available under a name."""

localizer_names = REGISTRY.names
make_localizer = REGISTRY.build


@register("attribution")
class AttributionPatching(Localizer):
    """How much of the behaviour's logit difference a head accounts for: |score| by a registered scorer.

    The scores are those of contrast pairs of the training part.

    Args:
        scorer: name of the scorer.
        examples: maximum number of pairs to score.

    Raises:
        DataError: the behaviour has no contrast pairs.
    """

    def __init__(self, scorer: str = "attribution", examples: int = 64):
        self.scorer, self.examples = scorer, examples

    def scores(self, case: Case) -> np.ndarray:
        from ...scoring import make_scorer
        from ...scoring.probes import ContrastProbe

        pairs = case.behaviour.pairs
        if pairs is None:
            raise DataError(
                "the localizer 'attribution' needs contrast pairs, and the behaviour has none; give rows with the "
                "columns clean, corrupted, answer, wrong_answer, or use another localizer"
            )
        probe = ContrastProbe.from_dataset(pairs, case.tokenizer, 32, self.examples)
        found = make_scorer(self.scorer).score(case.model, case.table, probe).values
        return np.abs(found[case.table.kind == "head"])


@register("forecast")
class Forecast(Localizer):
    """The heads that will matter later in fine-tuning, according to a forecast of a recorded run's scores.

    Args:
        trajectory: folder of a recorded trajectory of the same model.
        horizon: steps after the cutoff.
        forecaster: name of a registered forecaster, or module:Class.
        cutoff: the last step that the forecaster may see; by default the last one recorded.
        scorer: which scores to forecast, if the run has several.

    Raises:
        TrajectoryError: the folder holds no trajectory, or one of another model.
    """

    def __init__(
        self,
        trajectory: str,
        horizon: int,
        forecaster: str = "damped_drift",
        cutoff: int | None = None,
        scorer: str | None = None,
    ):
        self.trajectory, self.horizon, self.forecaster = trajectory, horizon, forecaster
        self.cutoff, self.scorer = cutoff, scorer

    def scores(self, case: Case) -> np.ndarray:
        from ...forecasters import make_forecaster
        from ...trajectory.trajectory import Trajectory

        recorded = Trajectory.read(self.trajectory)
        recorded.require_table(case.table)
        series = recorded.series(self.scorer or recorded.scorers[0], self.cutoff)
        found = make_forecaster(self.forecaster).fit(series).predict(self.horizon)
        return found[case.table.kind == "head"]


@register("given")
class Given(Localizer):
    """The user's own list of heads, the most important first.

    Args:
        heads: names such as L12.head.3.

    Raises:
        ConfigError: no head given, or one that the model does not have.
    """

    def __init__(self, heads: Sequence[str]):
        if isinstance(heads, str):
            raise ConfigError(f"heads is {heads!r}; expected a list such as [L12.head.3]")
        self.heads = tuple(heads)

    def scores(self, case: Case) -> dict[str, float]:
        head_taps(case.table, self.heads)  # refuses names that are not heads
        return {name: float(-i) for i, name in enumerate(self.heads)}


@register("probes")
class ProbeAccuracy(Localizer):
    """How well a probe on a head tells right answers from wrong ones, as in inference-time intervention.

    The score is the accuracy on the validation questions of a logistic probe fitted to the training questions.
    """

    def scores(self, case: Case) -> np.ndarray:
        from .probes import probe_accuracy, read_outputs

        train, held_out = (
            read_outputs(case.model, case.table, case.tokenizer, questions)
            for questions in (case.behaviour.train, case.behaviour.validation)
        )
        return probe_accuracy(train, held_out)
