"""The shared tap: plain hooks on stock modules that read or replace the activations of components.

A head is read at the input of its attention's output projection, an MLP block at the input of the down projection, a
KV group at the outputs of the key and value projections (`Component.taps`). Hooks registered here run after those that
a bank has registered, so they see the activations of the weights in effect. Hooks that only read are removed before
the backward pass, so that a checkpointed layer, which is recomputed there, records nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from .probes import Batch


@dataclass(frozen=True, eq=False)
class Site:
    """One side of one module at which components are tapped.

    `owner` is int64 [width]: the table position of the component that each feature belongs to, n_components for none.
    """

    module: str
    side: str
    owner: Tensor

    @property
    def width(self) -> int:
        return len(self.owner)


def sites(table: ComponentTable) -> list[Site]:
    """List every place at which a component is tapped, in table order."""
    taps: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for i, component in enumerate(table):
        for tap in component.taps:
            taps.setdefault((tap.module, tap.side), []).append((i, tap.start, tap.stop))
    result = []
    for (module, side), spans in taps.items():
        owner = torch.full((max(stop for _, _, stop in spans),), len(table))
        for i, start, stop in spans:
            owner[start:stop] = i
        result.append(Site(module, side, owner))
    return result


@contextmanager
def tapped(model: nn.Module, places: list[Site], visit: Callable[[int, Tensor], Tensor | None]) -> Iterator[None]:
    """Call `visit(site number, activation)` in every forward pass; a tensor that it returns replaces the activation."""

    def on_input(i: int) -> Callable:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            new = visit(i, args[0])
            return None if new is None else (new, *args[1:])

        return hook

    def on_output(i: int) -> Callable:
        return lambda module, args, output: visit(i, output)

    with ExitStack() as stack:
        for i, site in enumerate(places):
            module = model.get_submodule(site.module)
            if site.side == "input":
                stack.enter_context(module.register_forward_pre_hook(on_input(i)))
            else:
                stack.enter_context(module.register_forward_hook(on_output(i)))
        yield


@contextmanager
def embeddings(model: nn.Module, change: Callable[[Tensor], Tensor] | None = None) -> Iterator[list[Tensor]]:
    """Cut the graph at the input embeddings [B, T, d_model], after `change` if it is given.

    Their detached copy requires grad, so that frozen models have a graph too. The yielded list receives it.
    """
    leaves: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        leaves.append((output if change is None else change(output)).detach().requires_grad_())
        return leaves[-1]

    with model.get_input_embeddings().register_forward_hook(hook):
        yield leaves


def logits_of(model: nn.Module, batch: Batch, corrupted: bool = False) -> Tensor:
    """Logits [B, K, vocabulary] at the batch's K labelled positions only, so that large vocabularies fit in memory."""
    return model(
        input_ids=batch.corrupted_ids if corrupted else batch.input_ids,
        attention_mask=batch.attention_mask,
        logits_to_keep=batch.positions,
        use_cache=False,
    ).logits


@dataclass
class Run:
    """One forward pass: an activation [B, T, features] per site, and the logits at the labelled positions."""

    activations: list[Tensor]
    logits: Tensor


def record(model: nn.Module, places: list[Site], batch: Batch, corrupted: bool = False) -> Run:
    """Run a batch and keep the tapped activations, which are part of the graph if grad mode is on."""
    seen: dict[int, Tensor] = {}
    with tapped(model, places, seen.__setitem__):
        logits = logits_of(model, batch, corrupted)
    return Run([seen[i] for i in range(len(places))], logits)


def sum_by_component(places: list[Site], n: int, products: Iterable[Tensor]) -> Tensor:
    """Sum elementwise products over positions and over each component's features.

    Args:
        n: number of components.
        products: float32 [B, T, features], one per site; a generator keeps only one in memory at a time.

    Returns:
        float32 [B, n].
    """
    total: Tensor | None = None
    for site, product in zip(places, products, strict=True):
        by_feature = product.sum(1)[:, : site.width]
        if total is None:
            total = by_feature.new_zeros(len(by_feature), n + 1)
        total.index_add_(1, site.owner.to(by_feature.device), by_feature)
    assert total is not None
    return total[:, :n]
