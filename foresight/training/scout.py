"""The scout: a short fine-tuning run before the real one, for where the weights will go: of the bank, or by LoRA.

"Beyond Static Interpretability" fine-tunes on 1 % of the data at a small learning rate, takes the change of the
weights, and puts them back. Here all components are trained through the run's own bank, at full size for as long as
it lasts: the model's weights are never written to, the change is the bank, and forgetting it undoes everything.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import DefaultFlowCallback, PrinterCallback, Trainer, TrainerControl, TrainerState, get_scheduler
from transformers.trainer_callback import CallbackHandler

from ..common.errors import ConfigError, NonFiniteError
from ..forecasters.single_weights.extrapolate import draw_factors, shifted_scores, taylor_scores
from ..forecasters.single_weights.margins import Map, Margins
from ..forecasters.single_weights.shift import in_float32
from ..masks.masks import Mask
from ..model.components import ComponentTable, features
from ..policies.scouted import Scouted, Scouting
from ..policies.single_weights.foresight import WeightForesight
from ..scoring.corrected import correct, error
from ..scoring.probes import Probe
from ..scoring.scorer import Scorer
from .calendar import total_steps
from .config import ForesightConfig
from .masked import MaskedTrainer
from .scoring_budget import whole_probe

SMALLER = 10
"""How many times smaller the scout's learning rate is than the run's, by default."""
LORA_RANK, LORA_RATE = 8, 1e-3
"""Of the adapter; the rate is the one at which LoRA learns most on SmolLM2-135M and still keeps what the base knew."""


def refuse_scout(args: ForesightConfig, dataset: Any) -> None:
    """Raise ConfigError for runs that policies cannot scout for, before any work is done."""
    if args.world_size > 1 or args.deepspeed:
        raise ConfigError(
            f"policy {args.policy!r} scouts, which runs in one process without DeepSpeed; start it without a launcher, "
            "or do so in a run of one step first and give the resulting schedule.json to policy 'replay'"
        )
    if not hasattr(dataset, "__len__"):
        raise ConfigError(f"policy {args.policy!r} scouts on a share of the data, but the dataset is a stream")
    if args.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy"):
        raise ConfigError(
            f"policy {args.policy!r} needs to know the learning rates ahead, which lr_scheduler_type "
            f"{args.lr_scheduler_type.value!r} decides on the way; use 'linear', 'cosine' or 'constant'"
        )


def scout(trainer: MaskedTrainer) -> None:
    """Scout for a run that has not begun to train: set its policy's scores and `run.scouting`.

    ``probing`` scores at the weights after the scout, ``predicted`` by the Taylor method and ``displaced``, its
    control, at the displaced weights; K reaches over the learning rates of the whole run (`draw_factors`).
    Model, bank and random state are as they were afterwards. Scores are magnitudes, corrected as the first snapshot is.

    The learning rate is a tenth of the run's unless `scout_learning_rate` says otherwise. Adam moves every weight by
    about the learning rate at each step, whatever the gradient; the change is wanted as a direction at the weights
    as they are, which it is the better the shorter it is, and K makes up for the length.

    Raises:
        NonFiniteError: the scout diverged; the weights are back.
        MaskLeakError: a weight of the model is not what it was, to the bit.
    """
    run, available = trainer.run, len(trainer.train_dataset)
    args, policy, watcher = run.args, run.policy, run.watcher
    assert isinstance(policy, Scouted) and watcher is not None  # which is built for every policy that scouts
    began = perf_counter()
    rate = args.learning_rate / SMALLER if policy.learning_rate is None else policy.learning_rate
    least = args.train_batch_size * args.gradient_accumulation_steps
    n = min(available, max(least, round(policy.share * available)))
    rows = np.random.default_rng([args.seed]).permutation(available)[:n]
    shift, steps, held = _shift(trainer, rows, rate)
    middle = perf_counter()
    probe = watcher.examples.take(0, whole_probe(args)[1])
    where = (run.model, run.table, probe, watcher.scorer)
    if args.policy == "probing":
        signed = shifted_scores(*where, shift)
    else:
        ahead = total_steps(
            args.max_steps, args.num_train_epochs, available, args.train_batch_size, args.gradient_accumulation_steps
        )
        assert ahead is not None  # the rows are known
        factors = draw_factors(float(planned_rates(args, ahead).sum()), rate * steps, args.seed)
        method = taylor_scores if args.policy == "predicted" else shifted_scores
        signed = method(*where, shift, factors)
    policy.scouted = np.abs(signed + (_error(*where) if args.calibrate else 0.0))
    shifts = sum(delta.nbytes for delta in shift.values())
    low = sum(p.numel() for p in run.model.parameters() if p.dtype != torch.float32)
    seconds = middle - began, perf_counter() - middle
    run.scouting = Scouting(len(rows), steps, rate, *seconds, bytes=max(held, 2 * shifts + 4 * low))


def lora_scout(masked: MaskedTrainer) -> None:
    """Tell the run's policy how far rows and columns move in `lora_steps` steps of LoRA on the same data, and set
    `run.scouting`. Nothing is written to the model's weights; bank and random state are as they were afterwards.

    Raises:
        NonFiniteError: the scout diverged.
        MaskLeakError: a weight of the model is not what it was, to the bit.
    """
    run = masked.run
    policy, model = run.policy, run.model
    assert isinstance(policy, WeightForesight) and policy.lora_steps is not None
    began = perf_counter()
    args = silent(run.args, LORA_RATE, max_steps=policy.lora_steps, remove_unused_columns=False)
    modules = [target.module for target in run.numbers.targets]
    trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
    with random_state_kept(), attributes_kept(model):
        adapted = get_peft_model(model, LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=modules))
        try:
            rows, collator = masked.train_dataset, masked.data_collator
            trainer = Trainer(model=adapted, args=args, train_dataset=rows, data_collator=collator)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            held = sum(3 * p.nbytes for p in adapted.parameters() if p.requires_grad)
            found = {}
            for module in modules:
                layer = model.get_submodule(module)
                found[module] = Margins.of(layer.get_delta_weight(layer.active_adapter[0]).detach().float().cpu())
        finally:
            adapted.unload()
            for parameter, was in trained.items():
                parameter.requires_grad_(was)
    if not all(torch.isfinite(one.rows).all() for one in found.values()):
        raise NonFiniteError("the scout's adapter diverged; leave policy_params.lora_steps away")
    run.bank.base.verify()
    policy.scouted(Map(found))
    examples = policy.lora_steps * args.train_batch_size * args.gradient_accumulation_steps
    run.scouting = Scouting(examples, policy.lora_steps, LORA_RATE, perf_counter() - began, 0.0, held)


def planned_rates(args: ForesightConfig, steps: int) -> np.ndarray:
    """Learning rate of every optimizer step of a run of `steps` steps, as its scheduler will set them: [steps]."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], args.learning_rate)
    how, warmup = args.lr_scheduler_kwargs, args.get_warmup_steps(steps)
    scheduler = get_scheduler(args.lr_scheduler_type, optimizer, warmup, steps, scheduler_specific_kwargs=how)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates, np.float64)


def _shift(trainer: MaskedTrainer, rows: np.ndarray, rate: float) -> tuple[dict[str, Tensor], int, int]:
    """Train all components on the rows once, and undo it: (the change of the weights, optimizer steps, bytes held)."""
    bank, table, size = trainer.run.bank, trainer.run.table, trainer.run.bank.n_vectors
    with random_state_kept(), attributes_kept(trainer.run.model):
        bank.remask(Mask(tuple(range(len(table)))), n_vectors=table.n_vectors)
        try:
            steps, held = _train_on(trainer, rows, rate)
            values = bank.placement.values(bank.vectors)
            if not torch.isfinite(values).all():
                raise NonFiniteError(
                    f"the scout diverged at learning rate {rate:.3g}; lower policy_params.scout_learning_rate"
                )
            found = {}
            for target, part in table.by_target(bank.ids):
                matrix = values[part].T if target.axis == "column" else values[part]
                found[target.module] = matrix.reshape(features(trainer.run.model.get_submodule(target.module))).clone()
            return found, steps, held
        finally:
            bank.remask(Mask(()), rollback=True, n_vectors=size)  # checks every weight to the bit


def _train_on(trainer: MaskedTrainer, rows: np.ndarray, rate: float) -> tuple[int, int]:
    """Train the bank as it is now on some rows, once, at a constant rate: same loss, collator and precision as the
    run's. Nothing is written or reported, and the trainer stays as it is: (optimizer steps, bytes held).
    """
    other = copy.copy(trainer)
    other._metrics = copy.deepcopy(getattr(trainer, "_metrics", None))  # SFTTrainer counts there
    other.args, other.run = silent(trainer.args, rate, max_steps=-1, num_train_epochs=1), copy.copy(trainer.run)
    other.train_dataset = trainer.train_dataset.select(rows)
    other.state, other.control = TrainerState(), TrainerControl()
    other.callback_handler = CallbackHandler([DefaultFlowCallback()], other.model, other.processing_class, None, None)
    super(MaskedTrainer, other).train()
    bank = other.run.bank
    moments = sum(state.nbytes for _, state in bank.placement.state(bank.vectors, other.run.optimizer))
    return other.state.global_step, 2 * bank.placement.values(bank.vectors).nbytes + moments


def silent(args: ForesightConfig, rate: float, **changes: Any) -> ForesightConfig:
    """A copy of the settings for a training run at a constant rate that writes and reports nothing."""
    args = copy.copy(args)
    for name, value in dict(
        learning_rate=rate, lr_scheduler_type="constant", logging_strategy="no", save_strategy="no",
        eval_strategy="no", disable_tqdm=True, **changes,
    ).items():  # fmt: skip
        setattr(args, name, value)
    return args


def _error(model: nn.Module, table: ComponentTable, probe: Probe, scorer: Scorer) -> np.ndarray:
    """What has to be added to scores at the weights as they are, as the first snapshot has it: [n_components]."""
    if not scorer.name.startswith("attribution"):
        return np.zeros(len(table))
    with in_float32(model):
        return error(correct(scorer, model, table, probe, scorer.score(model, table, probe)))


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Put back what a training loop sets on the model itself, such as its mixed-precision forward."""
    before = dict(vars(model))
    try:
        yield
    finally:
        vars(model).clear()
        vars(model).update(before)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put back the state of all random generators that a training run draws from."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
