"""The watcher: takes snapshots of a model's component scores while it is being trained."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..bank import Bank
from ..common.errors import ConfigError
from ..common.plugins import part
from ..policies.granularity import WITHOUT_PAIRS
from ..scoring import make_scorer
from ..scoring.probes import ContrastProbe, Probe, TextProbe
from ..scoring.scorer import DAMAGE, Scorer
from ..trajectory.series import Series
from ..trajectory.trajectory import Trajectory
from .run import Run
from .settings import MaskSettings


class Watcher:
    """Scores the model on a fixed probe and appends the snapshots to a trajectory.

    Attributes:
        scorer: what measures a component; its registered name is the key of its scores in the trajectory.
        trajectory: where snapshots go; set when the run starts or resumes.
        corrects: whether every snapshot patches a few components exactly (see `scoring.corrected`).
        seconds: wall time spent scoring, corrections included.
    """

    def __init__(self, bank: Bank, scorer: Scorer, probe: Probe, corrects: bool = False):
        self.bank, self.scorer, self.probe, self.corrects = bank, scorer, probe, corrects
        self.trajectory: Trajectory
        self.seconds = 0.0

    def series(self) -> Series:
        """Everything seen so far: magnitudes, corrected."""
        return self.trajectory.series(self.scorer.name)

    def damage(self) -> np.ndarray | None:
        """Damage at the steps of `series`, signed: float32 [n_components, n_steps]; None if it is not measured."""
        return self.trajectory.values(DAMAGE) if DAMAGE in self.trajectory.scorers else None

    def cost(self) -> dict[str, float]:
        """What scoring has taken so far beyond its seconds (see `Scorer.cost`), with them; empty where nothing is."""
        cost = self.scorer.cost(self.probe, len(self.trajectory))
        return {**cost, "scoring_seconds": self.seconds} if cost else {}

    def snapshot(self, step: int) -> None:
        """Score now and record; a second call for the same step does nothing."""
        taken = self.trajectory.snapshots
        if taken and taken[-1].step == step:
            return
        start, bank, name = time.perf_counter(), self.bank, self.scorer.name
        where = bank.model, bank.table, self.probe
        found = self.scorer.measure(*where, bank.placement)
        if self.corrects:
            past, correct = [earlier.scores[name] for earlier in taken], part("scoring.corrected.correct")
            found[name] = correct(self.scorer, *where, found[name], past, placement=bank.placement)
        self.trajectory.append(step, found)
        self.seconds += time.perf_counter() - start


def scorer_of(name: str, bank: Bank, **params: Any) -> Scorer:
    """The scorer with some parameters, reading weights in effect (base plus bank) where it reads weights.

    `movement` keeps an fp32 copy of all target weights as they are now.
    """
    if name in ("weight_gradient", "movement"):
        params["weights"] = bank.weights
    if name == "movement":
        read = bank.weights()
        params["reference"] = {target.module: read(target.module) for target in bank.table.targets}
    return make_scorer(name, **params)


def watcher_of(run: Run, rows: Dataset, pairs: Dataset | None, tokenizer: PreTrainedTokenizerBase) -> Watcher:
    """The watcher of a run over components or vectors, by its target and scorer.

    Args:
        rows: prepared training rows; pairs: contrast pairs.

    Raises:
        ConfigError: the scorer needs contrast pairs and there are none; DataError: a row that cannot be used.
    """
    args, target = run.args, run.target
    assert isinstance(run.bank, Bank)
    if not target.measures:
        scorer = scorer_of(run.scorer, run.bank, **target.scorer_params)
    else:
        kept = None
        if DAMAGE in target.measures:
            assert run.retained is not None  # `retained_rows` raises where there are none
            kept = TextProbe.from_dataset(run.retained.rows, args.probe_batch_size, args.probe_examples)
        scorer = part("scoring.virtual_moves.VirtualMoves")(args.learning_rate, args.adam_epsilon, kept)
    corrects = args.calibrate and scorer.name.startswith("attribution")
    return Watcher(run.bank, scorer, _probe(args, scorer, pairs, rows, tokenizer), corrects)


def _probe(
    args: MaskSettings,
    scorer: Scorer,
    pairs: Dataset | None,
    train_dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
) -> Probe:
    """The first `probe_examples` contrast pairs, or prepared training examples, whichever the scorer needs."""
    if not scorer.needs_pairs:
        return TextProbe.from_dataset(train_dataset, args.probe_batch_size, args.probe_examples)
    if pairs is None:
        raise ConfigError(
            f"scorer {scorer.name!r} needs contrast pairs; pass contrast_dataset (columns clean, corrupted, answer, "
            f"wrong_answer) or choose one that scores training text, such as {WITHOUT_PAIRS!r}"
        )
    return ContrastProbe.from_dataset(pairs, tokenizer, args.probe_batch_size, args.probe_examples)
