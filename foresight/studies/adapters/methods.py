"""The adapter of each method: its PEFT config, its callbacks and its number of parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle
from typing import Any

import numpy as np
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, ShiraConfig
from peft.tuners.shira.mask_functions import random_mask
from torch import nn
from transformers import TrainerCallback

from ...common.errors import ArchitectureError, ConfigError, one_of
from ...model.architectures import Architecture, architecture_of
from ...model.components import stored_transposed
from ...trajectory.series import Series
from .ranks import affordable, circuit_ranks, shapes_of

PRUNED_FROM = 1.5
"""AdaLoRA's initial rank divided by its final rank, as in its paper."""


@dataclass(frozen=True)
class Adapter:
    """Arguments for SFTTrainer: ``SFTTrainer(peft_config=adapter.config, callbacks=adapter.callbacks, …)``.

    Attributes:
        config: PEFT draws the initial factors of LoRA and AdaLoRA from torch's global generator when it wraps the
            model. Seed it (`transformers.set_seed`) just before, or they differ from run to run.
        parameters: number of trainable parameters; for AdaLoRA its peak, before pruning.
        callbacks: check that number, and allocate AdaLoRA's ranks: without them it never prunes.
    """

    config: PeftConfig
    parameters: int
    callbacks: list[TrainerCallback] = field(default_factory=list)


def adapt(
    method: str, model: nn.Module, parameters: int, *, seed: int, steps: int, scores: Series | None = None
) -> Adapter:
    """The largest adapter of a method that trains at most `parameters` parameters.

    AdaLoRA holds its initial rank until it prunes, and the budget applies to that peak; it ends with about two thirds
    of it. Its training loss, and the loss of the wrapped model wherever labels are given, includes a penalty on factors
    that are not orthogonal. Measure losses on ``trainer.model.get_base_model()``, where the adapter acts without the
    penalty. PEFT does not save AdaLoRA's sensitivities, so a resumed run estimates them again.

    Args:
        method: one of METHODS.
        model: a causal LM, on any device (meta included); it is not changed.
        parameters: the budget, such as a bank's number of vectors times d_model.
        seed: of SHiRA's masks, which differ from Linear to Linear.
        steps: optimizer steps of the run. AdaLoRA trains the first tenth at its initial rank and the last three tenths
            at its final ranks; in between it prunes at every hundredth of the run.
        scores: for circuit_lora, which uses the last snapshot.

    Raises:
        UnknownNameError: no such method.
        BudgetError: `parameters` is too few for the smallest adapter; the message says how many it needs.
        ConfigError: circuit_lora without scores, or fewer steps than AdaLoRA needs.
        ArchitectureError: unknown family, or SHiRA on a family without Linears (GPT-2).
        TrajectoryError: scores of another model.
    """
    adapter = _BUILDERS[one_of("adapter", method, METHODS)](_Wanted(method, model, parameters, seed, steps, scores))
    adapter.callbacks.append(CheckCount(method, adapter.parameters))
    return adapter


@dataclass(frozen=True)
class _Wanted:
    """The arguments of `adapt`, and what its builders share."""

    method: str
    model: nn.Module
    parameters: int
    seed: int
    steps: int
    scores: Series | None

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        return shapes_of(self.model)

    @property
    def architecture(self) -> Architecture:
        return architecture_of(self.model)

    @property
    def transposed(self) -> bool:
        return any(stored_transposed(self.model.get_submodule(name)) for name in self.shapes)

    @property
    def settings(self) -> dict[str, Any]:
        targets = list(self.architecture.targets())
        return dict(task_type="CAUSAL_LM", target_modules=targets, fan_in_fan_out=self.transposed)

    @property
    def per_rank(self) -> int:
        """Number of parameters of LoRA at rank 1."""
        return sum(map(sum, self.shapes.values()))


def _lora(wanted: _Wanted) -> Adapter:
    rank = affordable(wanted.method, wanted.per_rank, wanted.parameters)
    return Adapter(LoraConfig(r=rank, lora_alpha=rank, **wanted.settings), rank * wanted.per_rank)


def _adalora(wanted: _Wanted) -> Adapter:
    steps = wanted.steps
    if steps < 2:
        raise ConfigError(f"adapter 'adalora' over {steps} steps; expected at least 2, so that it can prune")
    per_rank = wanted.per_rank + len(wanted.shapes)  # one singular value per Linear and rank
    rank = affordable(wanted.method, per_rank, wanted.parameters, at_least=2)  # rank 1 cannot be pruned
    config = AdaLoraConfig(
        init_r=rank,
        target_r=int(rank / PRUNED_FROM),
        lora_alpha=rank,
        total_step=steps,
        tinit=steps // 10,
        tfinal=max(1, 3 * steps // 10),
        deltaT=max(1, steps // 100),
        **wanted.settings,
    )
    return Adapter(config, rank * per_rank, [Allocate()])


def _shira(wanted: _Wanted) -> Adapter:
    if wanted.transposed:
        raise ArchitectureError(
            f"PEFT's SHiRA adapts Linears, but model type {wanted.model.config.model_type!r} has Conv1D; use policy "
            "'random' with granularity 'weights', which trains single weights drawn at random in any family"
        )
    densest = min(rows * columns // (rows + columns) for rows, columns in wanted.shapes.values())
    rank = affordable(wanted.method, wanted.per_rank, wanted.parameters, at_most=densest)
    config = ShiraConfig(r=rank, random_seed=wanted.seed, **wanted.settings)
    config.mask_fn = _masks(wanted.seed, len(wanted.shapes))
    return Adapter(config, rank * wanted.per_rank)


def _ia3(wanted: _Wanted) -> Adapter:
    arch = wanted.architecture
    scaled = list(dict.fromkeys((arch.key, arch.value)))  # their outputs are scaled; of the down projection, the inputs
    count = sum(
        columns if name.endswith(f".{arch.down}") else rows
        for name, (rows, columns) in wanted.shapes.items()
        if name.endswith(tuple(f".{path}" for path in (*scaled, arch.down)))
    )
    affordable(wanted.method, count, wanted.parameters)
    settings = {**wanted.settings, "target_modules": [*scaled, arch.down]}
    return Adapter(IA3Config(feedforward_modules=[arch.down], **settings), count)


def _circuit_lora(wanted: _Wanted) -> Adapter:
    if wanted.scores is None:
        raise ConfigError("adapter 'circuit_lora' needs scores: a series of this model, such as that of a first probe")
    ranks = circuit_ranks(wanted.model, wanted.scores, wanted.parameters)
    pattern = {re.escape(name): rank for name, rank in ranks.items()}
    config = LoraConfig(r=1, lora_alpha=1, rank_pattern=pattern, alpha_pattern=dict(pattern), **wanted.settings)
    return Adapter(config, sum(rank * sum(wanted.shapes[name]) for name, rank in ranks.items()))


_BUILDERS: dict[str, Callable[[_Wanted], Adapter]] = {
    "lora": _lora,
    "adalora": _adalora,
    "shira": _shira,
    "ia3": _ia3,
    "circuit_lora": _circuit_lora,
}
METHODS = tuple(_BUILDERS)


def _masks(seed: int, modules: int):
    """SHiRA's random masks, drawn from the seed and the Linear's position; PEFT's own are equal for equal shapes."""
    places = cycle(range(modules))  # PEFT asks for all Linears in model order each time it wraps a model

    def mask(layer: nn.Module, r: int, **kwargs: Any):
        own = np.random.SeedSequence([seed, next(places)]).generate_state(1)
        return random_mask(layer, r, random_seed=int(own[0]))

    return mask


class CheckCount(TrainerCallback):
    """Raises ConfigError when training begins unless exactly the adapter's parameters are trainable."""

    def __init__(self, method: str, parameters: int):
        self.method, self.parameters = method, parameters

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        found = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters() if p.requires_grad)
        if found != self.parameters:
            raise ConfigError(
                f"adapter {self.method!r} was made for {self.parameters} trainable parameters, but the model has "
                f"{found}; give SFTTrainer the config made for this model, without modules_to_save or new tokens"
            )


class Allocate(TrainerCallback):
    """Shows AdaLoRA the gradients of every step, so that it can prune; trainers do not do that themselves.

    AdaLoRA divides its scale by the initial rank, which PEFT keeps as a parameter. PEFT makes that parameter trainable
    by accident when it moves it to another dtype or device, so it is frozen again here.
    """

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            if ".ranknum." in name:
                parameter.requires_grad = False

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)
