"""The shared tap: plain hooks on stock modules that read, replace or add up the activations of components.

A head is read at the input of its attention's output projection, an MLP block at the input of the down projection, a
KV group at the outputs of the key and value projections (`Component.taps`). Hooks registered here run after those that
a bank has registered, so they see the activations of the weights in effect.

Of a whole model's activations only what checkpointing keeps should exist at a time, so what a backward pass is for is
reduced within it: `tallied` sums activation x gradient per example and component, and the loss comes from the last
hidden states in pieces (`hidden_of`, `goodness`). `record`, which keeps everything, is for short prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from .probes import Batch

AT_ONCE = 2**22
"""Elements of activations, at least those of one example, whose products are formed at a time."""


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
    """Call `visit(site number, activation [B, T, features])` in every forward pass. A tensor that it returns replaces
    the activation.
    """
    shape = torch.Size()

    def see(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        nonlocal shape
        shape = output.shape[:2]

    def by_rows(i: int, found: Tensor) -> Tensor | None:
        """Some experts see all tokens of a batch in one row."""
        new = visit(i, found if found.ndim > 2 else found.unflatten(0, shape))
        return None if new is None else new.reshape(found.shape)

    def on_input(i: int) -> Callable:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            new = by_rows(i, args[0])
            return None if new is None else (new, *args[1:])

        return hook

    def on_output(i: int) -> Callable:
        return lambda module, args, output: by_rows(i, output)

    with ExitStack() as stack:
        stack.enter_context(model.get_input_embeddings().register_forward_hook(see))
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


def hidden_of(model: nn.Module, batch: Batch, corrupted: bool = False) -> Tensor:
    """Run a batch: the last hidden states [M, d_model] of its labelled tokens, row by row; `goodness` takes them.

    The model itself is called, for its hooks and its mixed precision, but computes no logits.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(output.last_hidden_state)

    from ..model.architectures import tower_of  # imports transformers

    with model.get_submodule(tower_of(model)).register_forward_hook(keep):
        model(
            input_ids=batch.corrupted_ids if corrupted else batch.input_ids,
            attention_mask=batch.attention_mask,
            logits_to_keep=batch.input_ids.new_zeros(0),
            use_cache=False,
        )
    return seen[0][batch.labelled]


@dataclass
class Run:
    """One forward pass: an activation [B, T, features] per site, and the hidden states at the labelled positions."""

    activations: list[Tensor]
    hidden: Tensor


def record(model: nn.Module, places: list[Site], batch: Batch, corrupted: bool = False) -> Run:
    """Run a batch and keep the tapped activations, which are part of the graph if grad mode is on."""
    seen: dict[int, Tensor] = {}
    with tapped(model, places, seen.__setitem__):  # no longer than this, as recomputation would record them again
        hidden = hidden_of(model, batch, corrupted)
    return Run([seen[i] for i in range(len(places))], hidden)


class Watched(torch.autograd.Function):
    """The identity of `value`; its backward pass calls `see(kept, gradient at value)`, once for every forward pass.

    `kept` is saved as autograd saves tensors, so that a checkpointed layer drops and recomputes it.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, kept: Tensor, see: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.see = see
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.see(ctx.saved_tensors[0], gradient)
        return gradient, None, None


Product = Callable[[int, slice, Tensor, Tensor], Tensor]
"""(site number, which examples, their activations, their gradients) -> what is summed: float32 [k, T, features]. Of the
two [points, k, T, features], the points are the rows of a pass that belong to one example."""


def activation_times_gradient(site: int, which: slice, activation: Tensor, gradient: Tensor) -> Tensor:
    """The first-order effect of setting an activation to zero."""
    return activation[0].float() * gradient[0].float()


class Tally:
    """Sums of products over positions and over each component's features, as backward passes deliver them.

    Every forward pass counted must be followed by its own backward pass before the next one begins.
    """

    def __init__(self, places: list[Site], n: int, product: Product, points: int):
        self.places, self.n, self.product, self.points = places, n, product, points
        self._passes: list[dict[int, Tensor]] = []

    def add(self, i: int, activation: Tensor, gradient: Tensor) -> None:
        """Take the activation and its gradient, [points x B, T, features], at a site."""
        both = (activation, gradient)
        a, g = (t.detach()[..., : self.places[i].width].unflatten(0, (self.points, -1)) for t in both)
        size = max(1, AT_ONCE // a[:, 0].numel())
        parts = [slice(at, at + size) for at in range(0, a.shape[1], size)]
        if not self._passes or i in self._passes[-1]:
            self._passes.append({})
        self._passes[-1][i] = torch.cat([self.product(i, part, a[:, part], g[:, part]).sum(1) for part in parts])

    def take(self) -> Tensor:
        """The sums since the last call, float32 [examples, n], pass by pass; NaN where a pass had no gradient, as below
        the lowest weight that is trained.
        """
        rows = [self._by_component(sums) for sums in self._passes]
        self._passes = []
        return torch.cat(rows)

    def _by_component(self, sums: dict[int, Tensor]) -> Tensor:
        some = next(iter(sums.values()))
        total = some.new_zeros(len(some), self.n + 1)
        for i, site in enumerate(self.places):
            found = sums[i].to(total.device) if i in sums else total.new_full((len(some), site.width), torch.nan)
            total.index_add_(1, site.owner.to(total.device), found)
        return total[:, : self.n]


@contextmanager
def tallied(
    model: nn.Module, places: list[Site], n: int, product: Product = activation_times_gradient, points: int = 1
) -> Iterator[Tally]:
    """Add up `product` in every backward pass to a forward pass taken within, also one of a step that trains.

    Both passes must be within, as checkpointed layers are recomputed in the second. One site's activation and gradient
    exist at a time, beyond what autograd keeps; `Tally.take` returns the sums.

    Args:
        n: number of components.
        points: how many rows belong to an example: row p * B + b is point p of example b.
    """
    tally = Tally(places, n, product, points)

    def watch(i: int, activation: Tensor) -> Tensor:
        return Watched.apply(activation, activation, partial(tally.add, i))

    with tapped(model, places, watch):
        yield tally
