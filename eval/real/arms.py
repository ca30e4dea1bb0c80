"""The arms of the proving ground: what each trains, and what it may know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BUDGET = 0.0029
"""Share of all parameters that a mask trains: LoRA's at rank 1."""


@dataclass(frozen=True)
class Arm:
    """One way to fine-tune.

    Attributes:
        rates: learning rates to try first, a factor of about 3 apart.
        method: "full" (true full fine-tuning), "lora" or "mask".
        settings: of `ForesightConfig` for masks, of LoRA's configuration for adapters.
        control: how a mask is made beforehand, of an earlier run or of the weights (`run._control`); then no policy is
            set.
        earlier: whether it needs earlier runs, by default one of the same task on other rows.
        steps: of its runs in the screen.
        onward: whether training begins at the earlier run's weights instead of the base.
    """

    about: str
    rates: tuple[float, ...]
    method: str = "mask"
    settings: dict[str, Any] = field(default_factory=dict)
    control: str | None = None
    earlier: bool = False
    onward: bool = False
    steps: int = 60


def _mask(about: str, control: str, rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)) -> Arm:
    earlier = control not in ("largest", "smallest", "principal")
    return Arm(about, rates, control=control, earlier=earlier)


CIRCUIT: dict[str, Any] = {"granularity": "components", "mlp_block": 32}
"""Blocks are small, so that the budget has room for seven of them, or for a head and one of them."""
CIRCUIT_RATES = (1e-3, 3e-3, 1e-2)


def _circuit(about: str, **settings: Any) -> Arm:
    return Arm(about, CIRCUIT_RATES, settings={**CIRCUIT, **settings})


FULL_RATES = (3e-5, 1e-4, 3e-4)
LORA_RATES = (3e-4, 1e-3, 3e-3)

ARMS: dict[str, Arm] = {
    "full": Arm("all parameters, embeddings and norms included", FULL_RATES, "full"),
    "all_maskable": Arm("all matrices of the layers", FULL_RATES, settings={"policy": "full"}),
    "lora1": Arm("LoRA of rank 1 on every matrix", LORA_RATES, "lora", {"r": 1, "lora_alpha": 1}),
    "lora8": Arm("LoRA of rank 8 on every matrix", LORA_RATES, "lora", {"r": 8, "lora_alpha": 8}),
    "random": Arm("random weights", (1e-2, 3e-2, 1e-1), settings={"policy": "random"}),
    "gradient": Arm("weights of highest |gradient| at step 0", (3e-4, 1e-3, 3e-3),
                    settings={"policy": "static", "scorer": "gradient"}),
    "hindsight": _mask("weights that moved most in an earlier run", "highest"),
    "shuffled": _mask("as many weights per matrix as in hindsight, at random", ""),
    "row_counts": _mask("as many weights per output row as in hindsight, at random", "row"),
    "column_counts": _mask("as many weights per column as in hindsight, at random", "column"),
    "both_counts": _mask("drawn by the product of hindsight's counts per row and column", "row column"),
    "margins": _mask("drawn by how far each row and column moved in an earlier run", "margins"),
    "rows": _mask("whole output rows that moved most", "rows", (1e-3, 3e-3, 1e-2)),
    "largest": _mask("largest weights", "largest"),
    "smallest": _mask("smallest weights", "smallest"),
    "principal": _mask("largest weights of the best approximation of rank 32 (LIFT)", "principal"),
    "circuit": _circuit("heads and MLP blocks of highest score at step 0", policy="static"),
    "circuit_again": _circuit("the same, scored anew every tenth of the run", policy="reactive", remask_every=6),
    "circuit_random": _circuit("random heads and MLP blocks", policy="random"),
    "circuit_hindsight": Arm("heads and MLP blocks that moved most in an earlier run", CIRCUIT_RATES, settings=CIRCUIT,
                           control="circuit", earlier=True),
    "foresight": Arm("random weights, drawn anew by their own rows and columns", (1e-2, 3e-2, 1e-1),
                   settings={"policy": "foresight"}),
    "foresight_kept": Arm("the same as hindsight, by the policy, which scales the rate of random weights by itself",
                        (1e-2, 3e-2, 1e-1), earlier=True,
                        settings={"policy": "foresight", "policy_params": {"own": False}}),
    "foresight_scouted": Arm("drawn by rows and columns that 20 steps of LoRA have moved, which cost it as many steps",
                           (1e-2, 3e-2, 1e-1), steps=40,
                           settings={"policy": "foresight", "policy_params": {"own": False, "lora_steps": 20}}),
    "foresight_anew": Arm("weights that moved most in earlier runs, drawn anew by their own rows and columns",
                        (1e-2, 3e-2, 1e-1), earlier=True, settings={"policy": "foresight"}),
    "random_onward": Arm("random weights, from the earlier run's weights", (1e-2, 3e-2, 1e-1), earlier=True,
                         onward=True, settings={"policy": "random"}),
    "full_onward": Arm("all parameters, from the earlier run's weights", FULL_RATES, "full", earlier=True, onward=True),
    "lora8_onward": Arm("LoRA of rank 8, from the earlier run's weights", LORA_RATES, "lora",
                        {"r": 8, "lora_alpha": 8}, earlier=True, onward=True),
    "hindsight_onward": Arm("hindsight's weights, from the earlier run's", (1e-3, 3e-3, 1e-2), control="highest",
                            earlier=True, onward=True),
}  # fmt: skip
