"""Features of every weight of a matrix, from the sums that a watch has kept.

Quantities are relative to their mean over the model, so that runs of other lengths, learning rates and losses compare;
ranks are within the matrix. `outer` is row mean x column mean of the displacement: what a row or a column shares is
signal, most of the rest is noise from the order of the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .sums import DISPLACEMENT, Factored

NEEDS = (DISPLACEMENT, "gradient", "sign", "absolute", "square")
"""Sums that features are made of."""
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Matrices that have an indicator feature of their own; for any other matrix, all of these are 0."""
_LOGS = (DISPLACEMENT, "outer", "gradient", "absolute", "square", "weight", "gradient_weight")
_SHARES = ("agreement", "signal_to_noise")
_RANKS = (DISPLACEMENT, "outer", "signal_to_noise")
FEATURES = (
    *(f"log_{name}" for name in _LOGS),
    *_SHARES,
    *(f"rank_{name}" for name in _RANKS),
    "depth",
    *KINDS,
)
"""Names of the columns of `features`."""
_FLOOR = 1e-6


@dataclass(frozen=True)
class WatchedMatrix:
    """What is known of a matrix when a watch ends.

    Attributes:
        module: its name.
        sums: by name, float32 [rows, columns].
        weight: as it is stored, float32.
    """

    module: str
    sums: dict[str, Tensor]
    weight: Tensor


def agreement(sums: dict[str, Tensor]) -> Tensor:
    """|sum of the gradient's signs|: how many steps agree on a direction, net."""
    return sums["sign"].abs()


def signal_to_noise(sums: dict[str, Tensor]) -> Tensor:
    """|sum of gradients| over the root of the sum of their squares, in [0, sqrt(steps)]; 0 without gradients."""
    return sums["gradient"].abs() / sums["square"].sqrt().clamp(min=torch.finfo(torch.float32).tiny)


def outer(displacement: Tensor) -> Tensor:
    """What the factored form keeps of a displacement [rows, columns]."""
    kept = Factored(*displacement.shape)
    kept.add(displacement)
    return kept.read()


def quantities(measured: WatchedMatrix) -> dict[str, Tensor]:
    """Every quantity that features are made of, float32 [rows, columns], >= 0."""
    known = measured.sums
    return {
        DISPLACEMENT: known[DISPLACEMENT],
        "outer": outer(known[DISPLACEMENT]),
        "gradient": known["gradient"].abs(),
        "absolute": known["absolute"],
        "square": known["square"],
        "weight": measured.weight.abs(),
        "gradient_weight": (known["gradient"] * measured.weight).abs(),
        "agreement": agreement(known),
        "signal_to_noise": signal_to_noise(known),
    }


def levels(everything: Iterable[WatchedMatrix]) -> dict[str, float]:
    """Mean of every quantity over all weights of a model."""
    sums: dict[str, float] = {}
    weights = 0
    for measured in everything:
        weights += measured.weight.numel()
        for name, values in quantities(measured).items():
            sums[name] = sums.get(name, 0.0) + float(values.double().sum())
    return {name: total / weights for name, total in sums.items()}


def features(measured: WatchedMatrix, level: dict[str, float], layers: int) -> Tensor:
    """Features of a matrix's weights, float32 [n_weights, len(FEATURES)], in the order in which they are stored.

    Args:
        level: means over the model, from `levels`.
        layers: number of layers of the model.
    """
    found = {name: values.flatten() for name, values in quantities(measured).items()}
    relative = {name: values / level[name] if level[name] > 0 else values for name, values in found.items()}
    n = measured.weight.numel()
    layer = re.search(r"\.(\d+)\.", measured.module)
    depth = int(layer[1]) / max(1, layers - 1) if layer else 0.5
    leaf = measured.module.rsplit(".", 1)[-1]
    return torch.stack(
        [
            *((relative[name] + _FLOOR).log10() for name in _LOGS),
            *(relative[name] for name in _SHARES),
            *(_rank(found[name]) for name in _RANKS),
            torch.full((n,), depth),
            *(torch.full((n,), float(leaf == kind)) for kind in KINDS),
        ],
        dim=1,
    )


def _rank(values: Tensor) -> Tensor:
    """Position in ascending order divided by their number, in (0, 1]."""
    ranks = torch.empty_like(values)
    ranks[values.argsort(stable=True)] = torch.arange(1, len(values) + 1, dtype=values.dtype) / len(values)
    return ranks
