"""How far other runs have moved the weights of a model: runs of foresight, of PEFT, or other checkpoints of it.

One matrix is read at a time, so a source may be as large as the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..common.errors import CheckpointError
from ..common.files import read_json
from ..model.components import turned
from ..model.numbering import Target
from .base_weights import as_vectors, write_vectors
from .delta import INFO, Delta

_BEYOND = ("alpha_pattern", "rank_pattern", "use_dora", "modules_to_save")
"""Settings of adapters whose matrices change by something else than the same multiple of B A."""
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

Free = Literal["every weight", "a mask", "an adapter"]
"""What a run could move."""


@dataclass(frozen=True)
class Movement:
    """Called with a target, |theta_T - theta|, float32 in the shape of its stored weight; zeros for one that has not
    been touched. theta is what the model's weights are when it is asked.

    Attributes:
        free: what the run could move: of anything else a distance of 0 says nothing.
    """

    moved: Callable[[Target], Tensor]
    free: Free

    def __call__(self, target: Target) -> Tensor:
        return self.moved(target)


def movement(source: str | Path, model: nn.Module) -> Movement:
    """How far a run has moved each weight of this model.

    Args:
        source: the output folder of a finished run of foresight, a delta, a LoRA adapter of PEFT, or a folder with
            other weights of the same model in safetensors.

    Raises:
        CheckpointError: nothing of that kind is there, or it is of another model.
    """
    folder = Path(source)
    if (folder / ADAPTER).exists():
        return _of_adapter(folder, model)
    for delta in (folder, folder / "delta"):
        if (delta / INFO).exists():
            return _of_delta(delta, model)
    files = sorted(folder.glob("*.safetensors"))
    if (folder / "config.json").exists() and files:
        return _of_checkpoint(folder, files, model)
    raise CheckpointError(
        f"{source} is no source of movement: expected the output folder of a finished run, a delta, a PEFT adapter, or "
        "a model folder with safetensors"
    )


def _of_delta(folder: Path, model: nn.Module) -> Movement:
    delta = Delta(folder, model)
    table = delta.table

    def moved(target: Target) -> Tensor:
        own, module = table.target_of[target.module], model.get_submodule(target.module)
        weight, result = module.weight.detach(), torch.zeros(module.weight.shape)
        if (found := delta.of(own)) is not None:
            index, values = found
            before = as_vectors(weight, module, own)[index.to(weight.device)].float().cpu()
            write_vectors(result, module, own, index, (values - before).abs())
        return result

    return Movement(moved, "every weight" if delta.info["vectors"] == table.n_vectors else "a mask")


def _of_adapter(folder: Path, model: nn.Module) -> Movement:
    try:
        config = read_json(folder / ADAPTER)
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        others = {name: config[name] for name in _BEYOND if config.get(name)}
        if config.get("peft_type", "LORA") != "LORA" or others:
            what = others or {"peft_type": config["peft_type"]}
            raise CheckpointError(f"{folder} is an adapter with {what}; expected plain LoRA, whose change is B A")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / ADAPTER} is not that of a LoRA adapter ({error!r})") from error
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)

    def moved(target: Target) -> Tensor:
        name, module = f"base_model.model.{target.module}", model.get_submodule(target.module)
        a, b = (_read(folder / ADAPTER_WEIGHTS, f"{name}.lora_{side}.weight") for side in "AB")
        if a is None or b is None:
            return torch.zeros(module.weight.shape)
        return _of_shape(turned(scale * (b.float() @ a.float()), module), target, module, folder).abs()

    return Movement(moved, "an adapter")


def _of_checkpoint(folder: Path, files: list[Path], model: nn.Module) -> Movement:
    places: dict[str, Path] = {}
    for file in files:
        with _opened(file) as tensors:
            places |= dict.fromkeys(tensors.keys(), file)

    def moved(target: Target) -> Tensor:
        name = f"{target.module}.weight"
        if name not in places:
            raise CheckpointError(f"{folder} has no tensor {name}; expected other weights of the same model")
        module = model.get_submodule(target.module)
        now = _read(places[name], name)
        assert now is not None
        return (_of_shape(now.float(), target, module, folder) - module.weight.detach().float().cpu()).abs()

    return Movement(moved, "every weight")


def _read(file: Path, name: str) -> Tensor | None:
    with _opened(file) as tensors:
        return tensors.get_tensor(name) if name in tensors.keys() else None  # noqa: SIM118 (it is no mapping)


def _opened(file: Path):
    try:
        return safe_open(file, "pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _of_shape(values: Tensor, target: Target, module: nn.Module, source: Path) -> Tensor:
    if values.shape != module.weight.shape:
        raise CheckpointError(
            f"{source}: {target.module} has shape {tuple(values.shape)}, the model's {tuple(module.weight.shape)}; "
            "expected other weights of the same model"
        )
    return values
