"""The arms of a train step: one builder a way of training, all on the same model and batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foresight.bank import Bank
from foresight.bank.optimizer import BankAdamW
from foresight.masks.budget import budget_vectors
from foresight.masks.masks import Mask
from foresight.masks.selection import select
from foresight.policies import granularity as granularities
from foresight.studies.adapters import adapt

from .shapes import Shape

RANK = 8
"""Of LoRA and AdaLoRA on all Linears of the layers; SHiRA trains as many parameters."""
GIVEN_UP = 0.1
"""Share of the mask's score that the cost-aware mask may lose."""


@dataclass
class Arm:
    """One way of training.

    Attributes:
        trained: the parameters that the optimizer has.
        optimizer: None for an arm that only runs forward and backward.
        after: called after every step with the number of steps done.
        bank: of arms that have one.
        renewal: every how many steps the optimizer does again what it does in its first step only; 0 for never.
    """

    model: nn.Module
    rows: Tensor
    trained: list[nn.Parameter]
    optimizer: torch.optim.Optimizer | None
    after: Callable[[int], None] | None = None
    bank: Bank | None = None
    renewal: int = 0
    steps: int = field(default=0, init=False)

    def step(self) -> None:
        """One optimizer step on the batch, with clipping, as a trainer does it."""
        self.forward_backward()
        if self.optimizer is None:
            return
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.steps += 1
        if self.after is not None:
            self.after(self.steps)
        self.optimizer.zero_grad()

    @property
    def lowest_layer(self) -> int:
        """Of a bank's mask: where the backward pass ends."""
        assert self.bank is not None
        return int(self.bank.table.layer[list(self.bank.mask.components)].min())

    def forward_backward(self) -> None:
        self.model(input_ids=self.rows, labels=self.rows).loss.backward()


@dataclass(frozen=True)
class Place:
    """Where an arm is built: the shape, the device, the dtype of the weights."""

    shape: Shape = Shape()
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def model(self) -> Any:
        return self.shape.model(self.device, self.dtype)

    def arm(self, model: nn.Module, trained: list[nn.Parameter], **more: Any) -> Arm:
        optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
        return Arm(model, self.shape.batch(self.device), trained, optimizer, **more)


def full(place: Place) -> Arm:
    """Every parameter, embeddings and head included."""
    model = place.model()
    return place.arm(model, list(model.parameters()))


def floor(place: Place) -> Arm:
    """Forward, and backward to the embeddings without a weight gradient; no optimizer."""
    model = place.model().requires_grad_(False)

    def differentiable(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output.detach().requires_grad_()

    model.get_input_embeddings().register_forward_hook(differentiable)
    return Arm(model, place.shape.batch(place.device), [], None)


def layers_2(place: Place) -> Arm:
    """Two whole layers, where two that are drawn at random lie on average: at a third and two thirds of the depth."""
    model = place.model().requires_grad_(False)
    layers = model.model.layers
    picked = [round((len(layers) + 1) * part / 3) - 1 for part in (1, 2)]
    trained = [p for at in picked for p in layers[at].requires_grad_(True).parameters()]
    return place.arm(model, trained)


def adapter(method: str) -> Callable[[Place], Arm]:
    """A PEFT adapter with the parameters of LoRA of rank `RANK`; IA3 has one size."""

    def build(place: Place) -> Arm:
        from peft import get_peft_model

        model = place.model()
        per_rank = sum(sum(p.shape) for name, p in model.named_parameters() if "_proj." in name)
        # AdaLoRA has a singular value a rank and matrix more: one more rank's worth of room lets it have as many.
        made = adapt(method, model, RANK * per_rank + per_rank // 2, seed=0, steps=10_000)
        wrapped = get_peft_model(model, made.config)
        for name, parameter in wrapped.named_parameters():
            if ".ranknum." in name:
                parameter.requires_grad_(False)
        wrapped.to(place.device, place.dtype)
        after = wrapped.base_model.update_and_allocate if method == "adalora" else None
        return place.arm(wrapped, [p for p in wrapped.parameters() if p.requires_grad], after=after)

    return build


def bank(budget: float, granularity: str = "components", cost_aware: float = 0.0) -> Callable[[Place], Arm]:
    """Our mask by random scores, which spreads it over all layers, unless it is cost-aware."""

    def build(place: Place) -> Arm:
        model = place.model()
        table = granularities.granularity(granularity).table(model, None)
        vectors = Bank(model, table, budget_vectors(table, budget))
        optimizer = BankAdamW(vectors.vectors, lr=1e-4)
        vectors.remask(random_mask(vectors, 0, cost_aware), optimizer)
        return Arm(model, place.shape.batch(place.device), [vectors.vectors], optimizer, bank=vectors)

    return build


def random_mask(bank: Bank, seed: int, cost_aware: float = 0.0) -> Mask:
    scores = np.random.default_rng(seed).random(len(bank.table))
    return select(scores, bank.table, bank.n_vectors, cost_aware=cost_aware)


ARMS: dict[str, Callable[[Place], Arm]] = {
    "full": full,
    "floor": floor,
    "lora_r8": adapter("lora"),
    "shira": adapter("shira"),
    "adalora": adapter("adalora"),
    "ia3": adapter("ia3"),
    "layers_2": layers_2,
    "bank_1pct": bank(0.01),
    "bank_5pct": bank(0.05),
    "bank_20pct": bank(0.2),
    "bank_5pct_scattered": bank(0.05, "vectors"),
    "bank_5pct_cost_aware": bank(0.05, cost_aware=GIVEN_UP),
}
