"""PEFT adapters: other ways to train as many parameters as a mask does.

`adapt` makes the largest adapter of a method whose trainable parameters do not exceed a given number, on the Linears
that masks can touch, for any family of `foresight.model.architectures`. Updates have scale 1 (alpha equals rank), so a
sweep over learning rates covers the scale too: with Adam, it multiplies the step of the factor that starts at zero.

- `lora`: the same rank everywhere (Hu et al., arXiv 2106.09685).
- `adalora`: ranks that are pruned by sensitivity during training (Zhang et al., arXiv 2303.10512).
- `shira`: single weights drawn at random, in each Linear as many as LoRA of one common rank has parameters there
  (Bhardwaj et al., arXiv 2406.13175).
- `ia3`: factors on keys, values and neurons; it has one size (Liu et al., arXiv 2205.05638).
- `circuit_lora`: LoRA whose ranks follow component scores, after CircuitLoRA (Wang et al., arXiv 2502.11812); our own
  definition, see `circuit_ranks`.
"""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, ShiraConfig
from peft.tuners.shira.mask_functions import random_mask
from torch import nn
from transformers import TrainerCallback

from ..common.errors import ArchitectureError, BudgetError, ConfigError, TrajectoryError, one_of
from ..model.architectures import layers_of
from ..model.components import component_table, features, stored_transposed
from ..trajectory.series import Series

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
    build = _BUILDERS[one_of("adapter", method, METHODS)]
    shapes = _shapes(model)
    transposed = any(stored_transposed(model.get_submodule(name)) for name in shapes)
    targets = list(dict.fromkeys(path for layer in layers_of(model) for path in layer.targets()))
    settings = dict(task_type="CAUSAL_LM", target_modules=targets, fan_in_fan_out=transposed)
    adapter = build(_Wanted(method, model, parameters, seed, steps, scores, shapes, settings))
    adapter.callbacks.append(CheckCount(method, adapter.parameters))
    return adapter


@dataclass(frozen=True)
class _Wanted:
    """The arguments of `adapt`, the shapes of the Linears, and the settings that all methods share."""

    method: str
    model: nn.Module
    parameters: int
    seed: int
    steps: int
    scores: Series | None
    shapes: dict[str, tuple[int, int]]
    settings: dict[str, Any]

    @property
    def per_rank(self) -> int:
        """Number of parameters of LoRA at rank 1."""
        return sum(map(sum, self.shapes.values()))


def _lora(wanted: _Wanted) -> Adapter:
    rank = _affordable(wanted.method, wanted.parameters, wanted.per_rank)
    return Adapter(LoraConfig(r=rank, lora_alpha=rank, **wanted.settings), rank * wanted.per_rank)


def _adalora(wanted: _Wanted) -> Adapter:
    steps = wanted.steps
    if steps < 2:
        raise ConfigError(f"adapter 'adalora' over {steps} steps; expected at least 2, so that it can prune")
    per_rank = wanted.per_rank + len(wanted.shapes)  # one singular value per Linear and rank
    rank = _affordable(wanted.method, wanted.parameters, per_rank, at_least=2)  # rank 1 cannot be pruned
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
    if wanted.settings["fan_in_fan_out"]:
        raise ArchitectureError(
            f"PEFT's SHiRA adapts Linears, but model type {wanted.model.config.model_type!r} has Conv1D; use policy "
            "'random' with granularity 'weights', which trains single weights drawn at random in any family"
        )
    densest = min(rows * columns // (rows + columns) for rows, columns in wanted.shapes.values())
    rank = min(densest, _affordable(wanted.method, wanted.parameters, wanted.per_rank))
    config = ShiraConfig(r=rank, random_seed=wanted.seed, **wanted.settings)
    config.mask_fn = _masks(wanted.seed, len(wanted.shapes))
    return Adapter(config, rank * wanted.per_rank)


def _ia3(wanted: _Wanted) -> Adapter:
    layers = layers_of(wanted.model)
    keys = {path for layer in layers if layer.attention for path in layer.attention.rows[1:]}
    downs = {layer.mlp.down for layer in layers if layer.mlp}
    scaled = dict.fromkeys(sorted(keys), 0) | dict.fromkeys(sorted(downs), 1)  # at outputs (rows), and at inputs
    sizes = ((path, shape) for name, shape in wanted.shapes.items() for path in scaled if name.endswith(f".{path}"))
    count = sum(shape[scaled[path]] for path, shape in sizes)
    _affordable(wanted.method, wanted.parameters, count)
    settings = wanted.settings | {"target_modules": list(scaled)}
    return Adapter(IA3Config(feedforward_modules=sorted(downs), **settings), count)


def _circuit_lora(wanted: _Wanted) -> Adapter:
    if wanted.scores is None:
        raise ConfigError("adapter 'circuit_lora' needs scores: a series of this model, such as that of a first probe")
    ranks = circuit_ranks(wanted.model, wanted.scores, wanted.parameters)
    pattern = {re.escape(name): rank for name, rank in ranks.items()}
    config = LoraConfig(r=1, lora_alpha=1, rank_pattern=pattern, alpha_pattern=dict(pattern), **wanted.settings)
    return Adapter(config, sum(rank * sum(wanted.shapes[name]) for name, rank in ranks.items()))


_BUILDERS = {"lora": _lora, "adalora": _adalora, "shira": _shira, "ia3": _ia3, "circuit_lora": _circuit_lora}
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

    PEFT keeps AdaLoRA's initial rank as a parameter, and makes it trainable by accident when it moves it to another
    dtype or device, so it is frozen again here.
    """

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            if ".ranknum." in name:
                parameter.requires_grad = False

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def _shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(rows, columns) of every Linear that a mask can touch, by full name, in forward order."""
    names = [f"{layer.path}.{path}" for layer in layers_of(model) for path in layer.targets()]
    return {name: features(model.get_submodule(name)) for name in names}


def _affordable(method: str, parameters: int, per_rank: int, at_least: int = 1) -> int:
    """The largest rank within the parameters."""
    rank = parameters // per_rank
    if rank < at_least:
        size = "has one size, which" if method == "ia3" else f"at rank {at_least}, its smallest,"
        raise BudgetError(
            f"adapter {method!r} {size} trains {at_least * per_rank} parameters, but only {parameters} are allowed; "
            f"allow at least {at_least * per_rank}, or leave it out"
        )
    return rank


def circuit_ranks(model: nn.Module, scores: Series, parameters: int) -> dict[str, int]:
    """LoRA ranks that follow component scores, by module name; every Linear that masks can touch has at least 1.

    CircuitLoRA gives a higher rank to the few layers whose circuit edges change most between two checkpoints of a
    fine-tuned model. This variant is our own. The weight of a Linear is the sum of its components' scores, each split
    over Linears in proportion to the component's vectors there. Ranks beyond the first go one by one to the Linear with
    the largest weight per current rank (D'Hondt's rule, so that ranks are proportional to weights) as long as they fit.
    No rank exceeds the smaller side of its matrix, beyond which it would add nothing.

    Args:
        scores: of components with any `mlp_block`; the last snapshot is used.

    Raises:
        BudgetError: too few parameters for rank 1 everywhere.
        TrajectoryError: the scores have a layer and kind that the model does not have.
    """
    shapes, weights = _shapes(model), _weights(model, scores)
    ranks = dict.fromkeys(shapes, 1)
    cost = {name: sum(shape) for name, shape in shapes.items()}
    _affordable("circuit_lora", parameters, sum(cost.values()))
    left = parameters - sum(cost.values())
    turns = (
        [(-weights[name] / rank, rank, at, name) for rank in range(1, min(shape))]
        for at, (name, shape) in enumerate(shapes.items())
    )
    for _, rank, _, name in heapq.merge(*turns):  # ties: lower rank first, then model order
        if cost[name] <= left:
            left -= cost[name]
            ranks[name] = rank + 1
    return ranks


def _weights(model: nn.Module, scores: Series) -> dict[str, float]:
    """The weights of `circuit_ranks`. Components of one layer and kind are spread over the same Linears alike."""
    shares: dict[tuple[int, str], dict[str, float]] = {}
    for component in component_table(model):
        parts: dict[str, float] = {}
        for piece in component.slices:
            parts[piece.module] = parts.get(piece.module, 0.0) + len(piece) / component.n_vectors
        shares[component.layer, component.kind] = parts
    weights = dict.fromkeys(_shapes(model), 0.0)
    columns = (scores.layer.tolist(), scores.kind.tolist(), scores.values[:, -1].tolist())
    for layer, kind, score in zip(*columns, strict=True):
        if (layer, kind) not in shares:
            raise TrajectoryError(
                f"the scores have a component of kind {kind!r} in layer {layer}, where this model has none; "
                "use scores of the same model"
            )
        for name, share in shares[layer, kind].items():
            weights[name] += share * score
    return weights
