"""A pass through the model that shows whether its components are what their table says.

Names and shapes cannot tell how fused rows are ordered, or what a model does with what a Linear computes. So some
heads, KV groups and MLP blocks are knocked out, one in each row of a batch. Values and neurons are made zero: nothing
may be left of what the component's own columns read. Queries and keys change their sign, which norms over all heads do
not notice. No other component of the kind may change as much. The test is our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from ..common.errors import ArchitectureError
from .components import Component, ComponentTable, Slice, Tap, turned

TOKENS = 8
"""Length of a row of the batch."""
LEFT = 1e-2
"""What may be left of a component that was knocked out, as a share of what it was: rounding of 16-bit numbers."""
NOISE = 1e-4
"""Changes that are none, as shares: those of one row of a batch by the others, where a component has no effect."""


@dataclass(frozen=True)
class _KnockOut:
    """Rows of a component that are made zero, or change their sign, and what then changes.

    Attributes:
        own: where that is read; among: where everything of the kind is read in the layer.
        zero: whether they are made zero, after which nothing that is read may depend on the tokens any longer.
    """

    name: str
    rows: tuple[Slice, ...]
    own: tuple[Tap, ...]
    among: tuple[Tap, ...]
    zero: bool


@torch.no_grad()
def check_components(model: nn.Module, table: ComponentTable) -> None:
    """Knock some components out, in the first layer of each shape. The model is left as it was.

    Every process of a group has to call this. Sharded weights are gathered by the pass itself.

    Raises:
        ArchitectureError: something else changes than the table says; names the component.
    """
    knocks = [knock for layer in _layers(table) for knock in _knock_outs(table, layer)]
    seen = _pass(model, knocks)
    for row, knock in enumerate(knocks, 1):
        before, after = ([seen[t.module][at, :, t.start : t.stop].float() for t in knock.among] for at in (0, row))
        change = np.array([_size(b - a) / (_size(b) or 1.0) for b, a in zip(before, after, strict=True)])
        own = np.array([tap in knock.own for tap in knock.among])
        rest = max((_size(a - a[:1]) / (_size(b) or 1.0) for b, a, o in zip(before, after, own, strict=True) if o))
        others = change[~own].max(initial=0.0)
        if (others > NOISE and change[own].min() <= others) or (knock.zero and rest > LEFT):
            where, least = knock.rows[0].module, change[own].min()
            raise ArchitectureError(
                f"model type {model.config.model_type!r} is not what its layout says: without the rows of {knock.name} "
                f"in {where}, its features change by {least:.2g} (and keep {rest:.2g}), those of others by "
                f"{others:.2g}. It would be masked wrongly; it needs its own row in foresight/model/architectures.py"
            )


def _layers(table: ComponentTable) -> Iterator[np.ndarray]:
    """Positions of the components of the first layer of each shape."""
    shapes = set()
    for layer in np.unique(table.layer):
        at = np.flatnonzero(table.layer == layer)
        shape = tuple(zip(table.kind[at], table.vectors[at], strict=True))
        if shape not in shapes:
            shapes.add(shape)
            yield at


def _knock_outs(table: ComponentTable, layer: np.ndarray) -> Iterator[_KnockOut]:
    kinds = {kind: [table.components[int(i)] for i in layer if table.kind[i] == kind] for kind in ("head", "kv", "mlp")}
    heads, groups = kinds["head"], kinds["kv"]
    outs = tuple(head.taps[0] for head in heads)
    for head in _some(heads):
        rows = [s for s in head.slices if s.axis == "row"]
        for role, piece in enumerate(rows):
            yield _KnockOut(head.name, (piece,), head.taps, outs, role == 2)
    for group in _some(groups):
        share = len(heads) // len(groups)
        own = outs[group.index * share : (group.index + 1) * share]
        for role, piece in enumerate(group.slices):
            yield _KnockOut(group.name, (piece,), own, outs, role == 1)
    blocks = tuple(block.taps[0] for block in kinds["mlp"])
    for block in _some(kinds["mlp"]):
        rows = [s for s in block.slices if s.axis == "row"]
        yield _KnockOut(block.name, tuple(rows), block.taps, blocks, True)


def _some(components: list[Component]) -> list[Component]:
    """The first, the second and the last."""
    return [components[i] for i in sorted({0, min(1, len(components) - 1), len(components) - 1})] if components else []


def _pass(model: nn.Module, knocks: list[_KnockOut]) -> dict[str, Tensor]:
    """What the output and down projections read, [1 + knocks, TOKENS, features] by module; row 0 is left alone."""
    n, seen, changes = 1 + len(knocks), dict[str, Tensor](), dict[str, list[tuple[int, Slice, int]]]()
    for at, knock in enumerate(knocks, 1):
        for piece in knock.rows:
            changes.setdefault(piece.module, []).append((at, piece, 0 if knock.zero else -1))

    def change(name: str):
        def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            _check_linear(name, module, args[0], output)
            changed = output.clone().view(n, TOKENS, -1)  # some MLPs see all tokens in one row
            for at, piece, factor in changes[name]:
                changed[at, :, piece.start : piece.stop] *= factor
            return changed.view_as(output)

        return hook

    def keep(name: str):
        def hook(module: nn.Module, args: tuple) -> None:
            if name in seen:
                raise ArchitectureError(
                    f"model type {model.config.model_type!r} is not supported: {name} runs more than once in a pass, "
                    "so that a component would act in several places"
                )
            seen[name] = args[0].detach().reshape(n, TOKENS, -1)

        return hook

    def check(name: str):
        return lambda module, args, output: _check_linear(name, module, args[0], output)

    read = {tap.module for knock in knocks for tap in knock.among}
    vocabulary = model.config.get_text_config().vocab_size
    row = torch.randint(vocabulary, (TOKENS,), generator=torch.Generator().manual_seed(0))
    training = model.training
    with ExitStack() as open_hooks:
        open_hooks.callback(model.train, training)
        for name in changes:
            open_hooks.callback(model.get_submodule(name).register_forward_hook(change(name)).remove)
        for name in read:
            open_hooks.callback(model.get_submodule(name).register_forward_pre_hook(keep(name)).remove)
            open_hooks.callback(model.get_submodule(name).register_forward_hook(check(name)).remove)
        model.eval()
        device = model.get_input_embeddings().weight.device
        model(input_ids=row.expand(n, -1).to(device), use_cache=False)
    return seen


def _check_linear(name: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
    """Raise ArchitectureError unless a module multiplies by its weight, as it is stored and no other way."""
    if hasattr(module.weight, "ds_id") or type(module) in (nn.Linear, Conv1D):
        return
    expected = F.linear(x, turned(module.weight, module), module.bias)
    if not torch.allclose(expected, output, rtol=LEFT, atol=LEFT * float(expected.abs().max())):
        raise ArchitectureError(
            f"{name} is a {type(module).__name__}, which does not compute what a Linear does with its weight: it would "
            "be masked wrongly. Load the model without quantization"
        )


def _size(x: Tensor) -> float:
    return float(x.norm())
