"""Scouting: a short fine-tuning run before the real one, for the direction in which the weights will go.

"Beyond Static Interpretability" fine-tunes on 1 % of the data at a small learning rate, takes the change of the
weights, and puts them back. Here all components are trained through the run's own bank, at full size for as long as
it lasts: the model's weights are never written to, the change is the bank, and forgetting it undoes everything.
"""

from __future__ import annotations

import copy
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DefaultFlowCallback, TrainerControl, TrainerState, get_scheduler
from transformers.trainer_callback import CallbackHandler
from trl import SFTTrainer

from ..common.errors import ConfigError, NonFiniteError
from ..forecasters.single_weights.extrapolate import draw_factors, shifted_scores, taylor_scores
from ..forecasters.single_weights.shift import in_float32
from ..masks.masks import Mask, everything
from ..scoring.calibration import calibrate
from ..scoring.gradient_taps import vectors_first
from ..scoring.probes import Probe
from ..scoring.scorer import Scorer
from .calendar import total_steps

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from .config import ForesightConfig
    from .trainer import ForesightTrainer

SMALLER = 10
"""How many times smaller the scout's learning rate is than the run's, by default."""


@dataclass(frozen=True)
class Cost:
    """What scouting took.

    Attributes:
        rows, steps: training examples, and optimizer steps over them.
        learning_rate: constant over those steps.
        training_seconds, scoring_seconds: wall time of the steps, and of the scores made from them.
        bytes: tensors held besides model and activations: all components' trained values, gradients and moments, or
            later the shift and copies of the weights.
    """

    rows: int
    steps: int
    learning_rate: float
    training_seconds: float
    scoring_seconds: float
    bytes: int

    def logged(self) -> dict[str, float]:
        """The numbers as a run logs them."""
        return {f"foresight/scouting_{name}": value for name, value in asdict(self).items()}


def refuse_trained(args: ForesightConfig, dataset: Any, who: str) -> None:
    """Raise ConfigError for runs in which nothing can be `trained` beforehand.

    Args:
        who: who wants it, and what for, in words.
    """
    if args.world_size > 1 or args.deepspeed:
        raise ConfigError(
            f"{who}, which runs in one process without DeepSpeed; start it without a launcher, or do so in a run of "
            "one step first and give the resulting schedule.json to policy 'replay'"
        )
    if not hasattr(dataset, "__len__"):
        raise ConfigError(f"{who} on a share of the data, but the dataset is a stream")


def refuse_scouting(args: ForesightConfig, dataset: Any) -> None:
    """Raise ConfigError for runs that cannot be scouted, before any work is done."""
    refuse_trained(args, dataset, f"policy {args.policy!r} scouts")
    if args.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy"):
        raise ConfigError(
            f"policy {args.policy!r} needs to know the learning rates ahead, which lr_scheduler_type "
            f"{args.lr_scheduler_type.value!r} decides on the way; use 'linear', 'cosine' or 'constant'"
        )


def scout(trainer: ForesightTrainer) -> tuple[np.ndarray, Cost]:
    """Scout for a trainer that has not begun to train, and score as its policy's name says.

    ``probing`` scores at the weights after scouting, ``predicted`` by the Taylor method and ``displaced``, its
    control, at the displaced weights; K reaches over the learning rates of the whole run (`weight_forecasts.reach`).
    Model, bank, random state and everything else of the trainer are as they were afterwards.

    The learning rate is a tenth of the run's unless `scout_learning_rate` says otherwise. Adam moves every weight by
    about the learning rate at each step, whatever the gradient; the change is wanted as a direction at the weights
    as they are, which it is the better the shorter it is, and K makes up for the length.

    Returns:
        Magnitudes, float64 [n_components], calibrated as the run calibrates snapshots; and the cost.

    Raises:
        NonFiniteError: scouting diverged; the weights are back.
        MaskLeakError: a weight of the model is not what it was, to the bit.
    """
    args: ForesightConfig = trainer.args
    began = time.perf_counter()
    rate = args.learning_rate / SMALLER if args.scout_learning_rate is None else args.scout_learning_rate
    rows = _rows(args, len(trainer.train_dataset))
    shift, steps, held = _probing_run(trainer, rows, rate)
    middle = time.perf_counter()
    watcher = trainer.watcher
    assert watcher is not None  # built for every policy that scouts
    where = (trainer.model, trainer.table, watcher.probe, watcher.scorer)
    if args.policy == "probing":
        signed = shifted_scores(*where, shift)
    else:
        factors = draw_factors(float(planned_rates(args, planned_steps(trainer)).sum()), rate * steps, args.seed)
        method = taylor_scores if args.policy == "predicted" else shifted_scores
        signed = method(*where, shift, factors)
    scores = np.abs(signed) * (_calibration(*where) if args.calibrate else 1.0)
    shifts = sum(delta.nbytes for delta in shift.values())
    low = sum(p.numel() for p in trainer.model.parameters() if p.dtype != torch.float32)
    cost = Cost(
        rows=len(rows),
        steps=steps,
        learning_rate=rate,
        training_seconds=middle - began,
        scoring_seconds=time.perf_counter() - middle,
        bytes=max(held, 2 * shifts + 4 * low),
    )
    return scores, cost


def planned_rates(args: ForesightConfig, steps: int) -> np.ndarray:
    """Learning rate of every optimizer step of a run of `steps` steps, as its scheduler will set them: [steps]."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], args.learning_rate)
    scheduler = get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        args.get_warmup_steps(steps),
        steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates, np.float64)


def planned_steps(trainer: ForesightTrainer) -> int:
    """Optimizer steps that the run will take."""
    args, rows = trainer.args, len(trainer.train_dataset)
    accumulation = args.gradient_accumulation_steps
    steps = total_steps(args.max_steps, args.num_train_epochs, rows, args.train_batch_size, accumulation)
    assert steps is not None  # the rows are known
    return steps


def _rows(args: ForesightConfig, available: int) -> np.ndarray:
    """Positions of the rows to scout on: the share of the data, at least one full optimizer step."""
    least = args.train_batch_size * args.gradient_accumulation_steps
    n = min(available, max(least, round(args.scout_share * available)))
    return np.random.default_rng([args.seed]).permutation(available)[:n]


def _probing_run(trainer: ForesightTrainer, rows: np.ndarray, rate: float) -> tuple[dict[str, Tensor], int, int]:
    """Train all components on the rows once, and undo it: (the shift, optimizer steps, bytes held)."""
    bank = trainer.bank
    with trained(trainer, everything(trainer.table), trainer.table.n_vectors, rows, rate) as prober:
        values = bank.placement.values(bank.vectors)
        if not torch.isfinite(values).all():
            raise NonFiniteError(f"scouting diverged at learning rate {rate:.3g}; lower scout_learning_rate")
        shift = {target.module: vectors_first(values[part], target).clone() for target, part in
                 trainer.table.by_target(bank.ids)}  # fmt: skip
        return shift, prober.state.global_step, held_bytes(prober)


@contextmanager
def trained(
    trainer: ForesightTrainer, mask: Mask, n_vectors: int, rows: np.ndarray, rate: float
) -> Iterator[ForesightTrainer]:
    """The model after training the components of a mask on some rows once, from fresh moments at a constant rate.

    Within it, the trainer's bank holds what was trained. On leaving, model, bank, random state and everything else of
    the trainer are as they were, which is checked to the bit.

    Args:
        n_vectors: rows of the bank meanwhile.
        rows: positions in the training dataset.

    Yields:
        The copy of the trainer that has trained.
    """
    bank, size = trainer.bank, trainer.bank.n_vectors
    with _random_state(), _attributes(trainer.model):
        bank.remask(mask, n_vectors=n_vectors)
        prober = _prober(trainer, rows, rate)
        try:
            SFTTrainer.train(prober)
            yield prober
        finally:
            bank.remask(Mask(()), rollback=True, n_vectors=size)  # checks every weight to the bit


def held_bytes(prober: ForesightTrainer) -> int:
    """Bytes of trained values, their gradients and moments while `trained`."""
    bank = prober.bank
    moments = sum(state.nbytes for _, state in bank.placement.state(bank.vectors, prober.bank_optimizer))
    return 2 * bank.placement.values(bank.vectors).nbytes + moments


def _prober(trainer: ForesightTrainer, rows: np.ndarray, rate: float) -> ForesightTrainer:
    """A copy of the trainer that trains the same bank on fewer rows: same loss, collator and precision as the run's.

    What a run writes to disk or reports is left out. The rate is constant, as a warm-up would eat up a few steps.
    """
    prober, args = copy.copy(trainer), copy.copy(trainer.args)
    for name, value in dict(
        learning_rate=rate, lr_scheduler_type="constant", max_steps=-1, num_train_epochs=1,
        logging_strategy="no", save_strategy="no", eval_strategy="no", disable_tqdm=True,
    ).items():  # fmt: skip
        setattr(args, name, value)
    prober.args = args
    prober.train_dataset = trainer.train_dataset.select(rows)
    prober.state, prober.control = TrainerState(), TrainerControl()
    prober._metrics = {mode: defaultdict(list) for mode in trainer._metrics}
    flow = DefaultFlowCallback()
    prober.callback_handler = CallbackHandler([flow], prober.model, prober.processing_class, None, None)
    return prober


def _calibration(model: nn.Module, table: ComponentTable, probe: Probe, scorer: Scorer) -> np.ndarray:
    """Factor of every component at the weights as they are, as snapshots have it: float64 [n_components]."""
    if not scorer.name.startswith("attribution"):
        return np.ones(len(table))
    with in_float32(model):
        factors = calibrate(model, table, probe, scorer.score(model, table, probe))
    return np.array([factors[kind] for kind in table.kind.tolist()])


@contextmanager
def _attributes(model: nn.Module) -> Iterator[None]:
    """Put back what a training loop sets on the model itself, such as its mixed-precision forward."""
    before = dict(vars(model))
    try:
        yield
    finally:
        vars(model).clear()
        vars(model).update(before)


@contextmanager
def _random_state() -> Iterator[None]:
    """Put back the state of all random generators that a training run draws from."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
