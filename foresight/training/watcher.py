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
from ..scoring.folds import Folds
from ..scoring.probes import Probe, TextProbe
from ..scoring.scorer import DAMAGE, Scorer
from ..scoring.scores import Scores
from ..trajectory.series import Series
from ..trajectory.trajectory import Trajectory
from .examples import Examples
from .run import Run
from .scoring_budget import comes_along, corrects, whole_probe


class Watcher:
    """Scores the model on examples and appends the snapshots to a trajectory.

    Every snapshot looks at other examples, and is pooled with those before it (see `Folds.pooled`); if all examples fit
    into one, each is of all and stands by itself. A scorer without samples of single examples always looks at the same.

    Attributes:
        scorer: what measures a component; its registered name is the key of its scores in the trajectory.
        trajectory: where snapshots go; set when the run starts or resumes.
        along: collects scores from training steps, for a scorer that has them from there; otherwise None.
        pool: what the newest snapshot says, example by example; None where it cannot be told.
        taken, passes: examples that have had their turn, and batches of them.
        probe: the examples of the newest snapshot.
        corrects: whether snapshots patch a few components exactly (see `scoring.corrected`).
        seconds: wall time spent scoring, corrections included.
    """

    def __init__(self, bank: Bank, scorer: Scorer, examples: Examples, along: bool = False, corrects: bool = False):
        self.bank, self.scorer, self.examples, self.corrects = bank, scorer, examples, corrects
        self.along = part("training.along.Along")(bank.model, bank.table) if along else None
        self.trajectory: Trajectory
        self.pool: Folds | None = None
        self.probe: Probe
        self.taken = self.passes = 0
        self.seconds = 0.0

    def series(self) -> Series:
        """Everything seen so far: magnitudes, corrected."""
        return self.trajectory.series(self.scorer.name)

    def damage(self) -> np.ndarray | None:
        """Damage at the steps of `series`, signed: float32 [n_components, n_steps]; None if it is not measured."""
        return self.trajectory.values(DAMAGE) if DAMAGE in self.trajectory.scorers else None

    def cost(self) -> dict[str, float]:
        """What scoring has taken so far beyond its seconds (see `Scorer.cost`), with them; empty where nothing is."""
        cost = self.scorer.cost(self.passes, len(self.trajectory))
        return {**cost, "scoring_seconds": self.seconds} if cost else {}

    def snapshot(self, step: int, count: int, patches: int | None) -> None:
        """Score now, on the next `count` examples, and record; a second call for the same step does nothing.

        Args:
            patches: units to patch for a correction, None for as many as `correct` takes by itself.
        """
        taken = self.trajectory.snapshots
        if taken and taken[-1].step == step:
            return
        start, name = time.perf_counter(), self.scorer.name
        fresh = None if self.along is None else self.along.fresh(self.bank.placement)
        if fresh is not None:
            self.pool = fresh if self.pool is None else self.pool.pooled(fresh)
            self.trajectory.append(step, {name: self.pool.scores()})
        else:
            self.probe = self.examples.take(self.taken if self.scorer.per_example else 0, count)
            found = self._measured(fixed=count >= len(self.examples))
            if self.corrects and patches != 0:
                found[name] = self._corrected(found[name], patches)
            self.trajectory.append(step, found)
            self.taken += count
            self.passes += len(self.probe.batches)
        self.seconds += time.perf_counter() - start

    def _measured(self, fixed: bool) -> dict[str, Scores]:
        bank, scorer = self.bank, self.scorer
        where = bank.model, bank.table, self.probe, bank.placement
        if not scorer.per_example:
            return scorer.measure(*where)
        samples = scorer.samples(*where)
        scores, fresh, before = scorer.combine(samples, bank.table), Folds.of(samples), self.pool
        self.pool = fresh
        if fresh is not None and before is not None and not fixed:
            self.pool = before.pooled(fresh)
            scores = self.pool.scores()
        return {scorer.name: scores}

    def _corrected(self, scores: Scores, patches: int | None) -> Scores:
        bank, correct = self.bank, part("scoring.corrected.correct")
        past = [earlier.scores[self.scorer.name] for earlier in self.trajectory.snapshots]
        return correct(self.scorer, bank.model, bank.table, self.probe, scores, past, patches, placement=bank.placement)


def scorer_of(name: str, bank: Bank, **params: Any) -> Scorer:
    """The scorer with some parameters, reading weights in effect (base plus bank) where it reads weights.

    `movement` keeps an fp32 copy of all target weights as they are now, on the host.
    """
    if name in ("weight_gradient", "movement"):
        params["weights"] = bank.weights
    if name == "movement":
        read = bank.weights()
        params["reference"] = {target.module: read(target.module).cpu() for target in bank.table.targets}
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
            kept = TextProbe.from_dataset(run.retained.rows, *whole_probe(args))
        scorer = part("scoring.virtual_moves.VirtualMoves")(args.learning_rate, args.adam_epsilon, kept)
    batch_size, _ = whole_probe(args)
    if not scorer.needs_pairs:
        return Watcher(run.bank, scorer, Examples(rows, None, batch_size), along=comes_along(args, scorer))
    if pairs is None:
        raise ConfigError(
            f"scorer {scorer.name!r} needs contrast pairs; pass contrast_dataset (columns clean, corrupted, answer, "
            f"wrong_answer) or choose one that scores training text, such as {WITHOUT_PAIRS!r}"
        )
    return Watcher(run.bank, scorer, Examples(pairs, tokenizer, batch_size), corrects=corrects(args, scorer.name))
