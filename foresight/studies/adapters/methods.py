"""One adapter a method: its PEFT config, its callbacks and its count of parameters."""

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
from .callbacks import Allocate, CheckCount
from .ranks import affordable, circuit_ranks, shapes_of

PRUNED_FROM = 1.5
"""AdaLoRA's initial over its final rank, as its paper has it."""


@dataclass(frozen=True)
class Adapter:
    """What SFTTrainer takes: ``SFTTrainer(peft_config=adapter.config, callbacks=adapter.callbacks, …)``.

    Attributes:
        config: PEFT draws the first factors of LoRA and AdaLoRA from torch's global generator when it wraps the model:
            seed that (`transformers.set_seed`) just before, or they differ from run to run.
        parameters: trainable ones; for AdaLoRA those at its peak, before it has pruned any.
        callbacks: they check that count and allocate AdaLoRA's ranks: without them it never prunes.
    """

    config: PeftConfig
    parameters: int
    callbacks: list[TrainerCallback] = field(default_factory=list)


def adapt(
    method: str, model: nn.Module, parameters: int, *, seed: int, steps: int, scores: Series | None = None
) -> Adapter:
    """The largest adapter of a method that trains at most so many parameters.

    AdaLoRA holds its initial rank until it has pruned, and that peak is what is matched: it ends with about two thirds.
    Its loss in training, and that of the wrapped model wherever labels are given, includes a penalty on factors that
    are not orthogonal; measure losses on ``trainer.model.get_base_model()``, where the adapter acts without it. PEFT
    does not save its sensitivities, so a resumed run estimates them anew.

    Args:
        method: one of METHODS.
        model: a causal LM, on any device (meta too); only looked at.
        parameters: what may be trained, such as the vectors of a bank times d_model.
        seed: of SHiRA's masks, which differ from Linear to Linear.
        steps: optimizer steps of the run. AdaLoRA trains a tenth of them at its initial rank and the last three tenths
            at the final ones, and prunes in between, every hundredth of the run.
        scores: for circuit_lora; the last snapshot counts.

    Raises:
        UnknownNameError: no such method.
        BudgetError: `parameters` is too few for the smallest adapter; the message says how many are enough.
        ConfigError: circuit_lora without scores, or fewer steps than AdaLoRA needs.
        ArchitectureError: unknown family, or SHiRA on one whose weights are no Linears (GPT-2).
        TrajectoryError: scores of another model.
    """
    adapter = _BUILDERS[one_of("adapter", method, METHODS)](_Wanted(method, model, parameters, seed, steps, scores))
    adapter.callbacks.append(CheckCount(method, adapter.parameters))
    return adapter


@dataclass(frozen=True)
class _Wanted:
    """The arguments of `adapt`, and what builders share."""

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
        """Parameters of LoRA of rank 1."""
        return sum(map(sum, self.shapes.values()))


def _lora(wanted: _Wanted) -> Adapter:
    rank = affordable(wanted.method, wanted.per_rank, wanted.parameters)
    return Adapter(LoraConfig(r=rank, lora_alpha=rank, **wanted.settings), rank * wanted.per_rank)


def _adalora(wanted: _Wanted) -> Adapter:
    steps = wanted.steps
    if steps < 2:
        raise ConfigError(f"adapter 'adalora' over {steps} steps; expected at least 2, to prune in between")
    per_rank = wanted.per_rank + len(wanted.shapes)  # a singular value each
    rank = affordable(wanted.method, per_rank, wanted.parameters, at_least=2)  # of 1, nothing can be pruned
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
            f"PEFT's SHiRA adapts Linears, model type {wanted.model.config.model_type!r} has Conv1D; use policy "
            "'random' with granularity 'weights', which trains single weights drawn at random in any family"
        )
    densest = min(rows * columns // (rows + columns) for rows, columns in wanted.shapes.values())
    rank = affordable(wanted.method, wanted.per_rank, wanted.parameters, at_most=densest)
    config = ShiraConfig(r=rank, random_seed=wanted.seed, **wanted.settings)
    config.mask_fn = _masks(wanted.seed, len(wanted.shapes))
    return Adapter(config, rank * wanted.per_rank)


def _ia3(wanted: _Wanted) -> Adapter:
    arch = wanted.architecture
    scaled = list(dict.fromkeys((arch.key, arch.value)))  # outputs; of the down projection, the inputs
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
    """SHiRA's random masks, from seed and place of the Linear; PEFT's own repeat in all Linears of one shape."""
    places = cycle(range(modules))  # PEFT asks in model order, for all of them, each time it wraps a model

    def mask(layer: nn.Module, r: int, **kwargs: Any):
        own = np.random.SeedSequence([seed, next(places)]).generate_state(1)
        return random_mask(layer, r, random_seed=int(own[0]))

    return mask
