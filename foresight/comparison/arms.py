"""The arms of a comparison: one policy each, everything else equal.

All arms restart the Adam moments of their whole bank at every re-mask boundary, also those whose mask never changes.
A component that enters a mask starts with fresh moments, and fresh moments alone speed up learning; without the same
restart in every arm a re-masking policy would win by its bookkeeping.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import UnknownNameError


@dataclass(frozen=True)
class Arm:
    """One policy with its settings.

    Attributes:
        label: what a reader sees.
        about: what it knows when it chooses its mask, in a few words.
        settings: `ForesightConfig` fields that this arm alone sets, the policy among them.
        learns: whether it may see the recorded runs of other tasks.
        draws: repetitions with another random mask; they are averaged before anything is compared.
    """

    name: str
    label: str
    about: str
    settings: dict[str, Any] = field(hash=False)
    learns: bool = False
    draws: int = 1


def _arm(name: str, label: str, about: str, learns: bool = False, draws: int = 1, **settings: Any) -> Arm:
    return Arm(name, label, about, {"policy": name, **settings}, learns, draws)


ARMS = {
    arm.name: arm
    for arm in (
        _arm("full", "Full", "trains every component, so it is no mask; the reference", record=True),
        _arm("random", "Random", "knows nothing: a fixed mask drawn at random", draws=3),
        _arm("static", "Static", "the circuit before training"),
        _arm("prior", "Prior", "layer and kind only, learned from other tasks", learns=True),
        _arm("reactive", "Reactive", "the circuit at the last snapshot, re-masked as it changes"),
        _arm("foresight", "Foresight", "the circuit that is forecast from this run and from other tasks", learns=True),
        _arm("oracle", "Oracle", "hindsight: the circuit that a full run of this task ended with"),
    )
}
"""By name, in the order of tables and plots."""

SIMPLE = ("random", "static", "prior", "reactive")
"""Masks that need no forecast: what a forecast has to beat."""


def arms(names: Iterable[str]) -> list[Arm]:
    """The arms of these names, in the order of `ARMS`. Raises UnknownNameError."""
    names = list(names)
    for name in names:
        if name not in ARMS:
            raise UnknownNameError("arm", name, ARMS)
    return [arm for arm in ARMS.values() if arm.name in names]
