"""The watcher: takes snapshots of a model's component scores while it is being trained."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..scoring import ContrastProbe, TextProbe, calibrate, make_scorer
from ..series import Series
from ..trajectory import Trajectory

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import DataCollator, PreTrainedTokenizerBase

    from ..bank import Bank
    from .config import ForesightConfig

_WITH_PAIRS, _WITHOUT_PAIRS = "attribution", "gradient_activation"


class Watcher:
    """Scores the model on a fixed probe and appends the snapshots to a trajectory.

    Attributes:
        scorer: what measures a component; its registered name is the key of its scores in the trajectory.
        trajectory: where snapshots go; set when the run starts or resumes.
        seconds: wall time spent scoring, calibration included.
    """

    def __init__(self, bank: Bank, scorer: str, probe: ContrastProbe | TextProbe):
        self.bank = bank
        self.scorer = make_scorer(scorer)
        self.probe = probe
        self.trajectory: Trajectory | None = None
        self.seconds = 0.0

    @property
    def last_step(self) -> int | None:
        """Step of the newest snapshot."""
        return self.trajectory.snapshots[-1].step if self.trajectory.snapshots else None

    def series(self) -> Series:
        """Everything seen so far: magnitudes, calibrated."""
        return self.trajectory.series(self.scorer.name)

    def snapshot(self, step: int) -> None:
        """Score now and record; a second call for the same step does nothing."""
        if self.last_step == step:
            return
        start = time.perf_counter()
        scores = self.scorer.score(self.bank.model, self.bank.table, self.probe)
        self.trajectory.append(step, {self.scorer.name: scores})
        self.seconds += time.perf_counter() - start

    def calibrate(self) -> None:
        """Learn, once, how many times too small the newest snapshot's scores are for each kind of component."""
        start = time.perf_counter()
        scores = self.trajectory.snapshots[-1].scores[self.scorer.name]
        self.trajectory.calibrate(self.scorer.name, calibrate(self.bank.model, self.bank.table, self.probe, scores))
        self.seconds += time.perf_counter() - start


def scorer_for(args: ForesightConfig, pairs: Dataset | None) -> str:
    """The scorer's name: the configured one, or by what data there is.

    Raises:
        ConfigError: the scorer needs contrast pairs and there are none.
    """
    if args.scorer == "auto":
        return _WITH_PAIRS if pairs is not None else _WITHOUT_PAIRS
    if make_scorer(args.scorer).needs_pairs and pairs is None:
        raise ConfigError(
            f"scorer {args.scorer!r} needs contrast pairs; pass contrast_dataset (columns clean, corrupted, answer, "
            f"wrong_answer) or choose one that scores training text, such as {_WITHOUT_PAIRS!r}"
        )
    return args.scorer


def make_probe(
    args: ForesightConfig,
    scorer: str,
    pairs: Dataset | None,
    train_dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    collate: DataCollator,
) -> ContrastProbe | TextProbe:
    """The first `probe_examples` contrast pairs, or prepared training examples exactly as they are trained on."""
    if make_scorer(scorer).needs_pairs:
        return ContrastProbe.from_dataset(pairs, tokenizer, args.probe_batch_size, args.probe_examples)
    examples = list(itertools.islice(iter(train_dataset), args.probe_examples))
    size = args.probe_batch_size
    return TextProbe([collate(examples[i : i + size]) for i in range(0, len(examples), size)])
