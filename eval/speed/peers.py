"""Arms of other packages, measured where these are installed: GaLore and BAdam, with their own optimizers.

Both train whole matrices, so that neither has a number of parameters to be made equal. Elsewhere their settings are the
published ones.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from importlib import import_module, metadata

import torch

from .arms import ARMS, RANK, Arm, Place

GALORE = {"rank": RANK, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std"}
"""Settings of https://github.com/jiaweizzhao/GaLore; the rank is that of LoRA here."""


def galore(place: Place) -> Arm:
    """GaLore (https://arxiv.org/abs/2403.03507): every parameter is trained, and AdamW's moments of the layers'
    matrices are kept in a space of rank `RANK`. The projections are made anew every 200 steps, by a singular value
    decomposition of every gradient: what the first step takes on top of a usual one is spread over as many. They are
    views of all singular vectors, which so stay in memory and are counted.
    """
    from galore_torch import GaLoreAdamW

    model = place.model()
    low = [p for name, p in model.named_parameters() if "_proj." in name]
    known = {id(p) for p in low}
    rest = [p for p in model.parameters() if id(p) not in known]
    optimizer = GaLoreAdamW([{"params": rest}, {"params": low, **GALORE}], lr=1e-4, no_deprecation_warning=True)
    batch, every = place.shape.batch(place.device), GALORE["update_proj_gap"]
    return Arm(model, batch, list(model.parameters()), optimizer, renewal=every)


def badam(place: Place) -> Arm:
    """BAdam (https://arxiv.org/abs/2404.02827): full fine-tuning of one layer at a time, with a master copy in fp32.

    The layer in the middle stands for all of them, as the time of a step is linear in how deep the layer lies. What a
    change to the next layer takes, once in 50 steps, is left out.
    """
    from badam import BlockOptimizer

    model = place.model()
    names = list(model.named_parameters())
    inner = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the layer
        middle = (len(model.model.layers) - 1) // 2
        optimizer = BlockOptimizer(inner, names, start_block=middle, switch_mode="fixed")
    return Arm(model, place.shape.batch(place.device), [p for _, p in names if p.requires_grad], optimizer)


PEERS: dict[str, tuple[str, Callable[[Place], Arm]]] = {"galore": ("galore_torch", galore), "badam": ("badam", badam)}
"""Name of an arm -> the package that it needs, and its builder."""


def versions() -> dict[str, str]:
    """Of the packages that are needed here only, and of DeepSpeed; those that are installed."""
    found = {}
    for name in ("deepspeed", "galore-torch", "bitsandbytes", "badam"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def all_arms() -> tuple[dict[str, Callable[[Place], Arm]], dict[str, str]]:
    """The arms that can be measured here, those of other packages last; and why the others cannot, by JSON key."""
    arms, missing = dict(ARMS), {}
    for name, (package, build) in PEERS.items():
        try:
            import_module(package)
        except ImportError as error:
            missing[f"train_step.{name}"] = f"{error}; to measure it: pip install 'foresight-sft[speed]'"
        else:
            arms[name] = build
    return arms, missing
