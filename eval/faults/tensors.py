"""Changes to a safetensors file that leave it one: its tensors say something else."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .alter import Change, NothingToChangeError

Tensors = dict[str, Tensor]


def value(tensors: Tensors, name: str, rng: random.Random) -> str:
    flat = tensors[name].flatten()
    at = rng.randrange(len(flat))
    before = flat[at].item()
    flat[at] = before * 2 + 1 if flat.dtype != torch.bool else not before
    tensors[name] = flat.view(tensors[name].shape)
    return f"value {at} of {name} was {before} and is {flat[at].item()}"


def not_finite(tensors: Tensors, name: str, rng: random.Random) -> str:
    if not tensors[name].is_floating_point():
        raise NothingToChangeError(name)
    flat = tensors[name].flatten()
    flat[rng.randrange(len(flat))] = rng.choice((float("nan"), float("inf")))
    tensors[name] = flat.view(tensors[name].shape)
    return f"a value of {name} is not finite"


def shorter(tensors: Tensors, name: str, rng: random.Random) -> str:
    if tensors[name].dim() == 0 or len(tensors[name]) < 2:
        raise NothingToChangeError(name)
    tensors[name] = tensors[name][:-1].contiguous()
    return f"the last row of {name} is gone"


def broadcast(tensors: Tensors, name: str, rng: random.Random) -> str:
    if tensors[name].dim() == 0 or len(tensors[name]) < 2:
        raise NothingToChangeError(name)
    tensors[name] = tensors[name][:1].contiguous()
    return f"{name} has one row, which would broadcast"


def permuted(tensors: Tensors, name: str, rng: random.Random) -> str:
    if tensors[name].dim() == 0 or len(tensors[name]) < 2:
        raise NothingToChangeError(name)
    tensors[name] = tensors[name].roll(1, 0).contiguous()
    return f"the rows of {name} have moved by one"


def repeated(tensors: Tensors, name: str, rng: random.Random) -> str:
    if tensors[name].dim() == 0 or len(tensors[name]) < 2:
        raise NothingToChangeError(name)
    changed = tensors[name].clone()
    changed[0] = changed[1]
    tensors[name] = changed
    return f"the first row of {name} is the second"


def negative(tensors: Tensors, name: str, rng: random.Random) -> str:
    tensors[name] = -tensors[name] if tensors[name].dtype != torch.bool else ~tensors[name]
    return f"{name} is negated"


def other_dtype(tensors: Tensors, name: str, rng: random.Random) -> str:
    narrow = {torch.float32: torch.float64, torch.int64: torch.int32, torch.float64: torch.float32}
    tensors[name] = tensors[name].to(narrow.get(tensors[name].dtype, torch.float32))
    return f"{name} is {tensors[name].dtype}"


def dropped(tensors: Tensors, name: str, rng: random.Random) -> str:
    del tensors[name]
    return f"{name} is gone"


def extra(tensors: Tensors, name: str, rng: random.Random) -> str:
    tensors[f"{name}x"] = tensors[name].clone()
    return f"{name}x is there as well"


def exchanged(tensors: Tensors, name: str, rng: random.Random) -> str:
    shape, dtype = tensors[name].shape, tensors[name].dtype
    twins = [k for k, t in tensors.items() if k != name and (t.shape, t.dtype) == (shape, dtype)]
    if not twins:
        raise NothingToChangeError(name)
    other = rng.choice(twins)
    tensors[name], tensors[other] = tensors[other], tensors[name]
    return f"{name} and {other} are exchanged"


def _of_file(act: Callable[[Tensors, str, random.Random], str], only: str = "") -> Change:
    """The change to a tensor whose name ends so."""

    def change(path: Path, rng: random.Random) -> str:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
            about = file.metadata()
        names = [name for name in sorted(tensors) if tensors[name].numel() and name.endswith(only)]
        for name in rng.sample(names, len(names)):
            try:
                said = act(tensors, name, rng)
            except NothingToChangeError:
                continue
            save_file(tensors, path, about)
            return said
        raise NothingToChangeError(path.name)

    return change


def change_of(name: str, only: str) -> Change:
    """One of `ACTS`, of a tensor whose name ends so."""
    return _of_file(next(act for act in ACTS if act.__name__ == name), only)


def header(path: Path, rng: random.Random) -> str:
    """Another value in the text that the file holds beside its tensors."""
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
        about = dict(file.metadata() or {})
    if not about:
        raise NothingToChangeError(path.name)
    key = rng.choice(sorted(about))
    digits = [i for i, letter in enumerate(about[key]) if letter.isdigit()]
    at = rng.choice(digits) if digits else rng.randrange(len(about[key]) or 1)
    before = about[key][at : at + 1]
    after = str((int(before) + 1) % 10) if digits else "x"
    about[key] = about[key][:at] + after + about[key][at + 1 :]
    save_file(tensors, path, about)
    return f"header {key}: character {at} was {before!r} and is {after!r}"


ACTS = (value, not_finite, shorter, broadcast, permuted, repeated, negative, other_dtype, dropped, extra, exchanged)
TENSORS: dict[str, Change] = {act.__name__: _of_file(act) for act in ACTS} | {"header": header}


def _forged(change: Change) -> Change:
    """The change to a delta's tensors, with its digest written again, as someone who forges one would."""

    def both(path: Path, rng: random.Random) -> str:
        from foresight.common.files import sha256
        from foresight.common.sealed import read_sealed, write_sealed

        said, about = change(path, rng), path.with_name("delta.json")
        write_sealed(about, read_sealed(about) | {"sha256": sha256(path)})
        return f"{said}, and sealed again"

    return both


FORGED: dict[str, Change] = {
    **{name: _forged(TENSORS[name]) for name in "not_finite shorter broadcast dropped extra other_dtype".split()},
    **{f"{act.__name__} index": _forged(_of_file(act, ".index")) for act in (repeated, negative, permuted)},
}
"""Changes after which a delta makes no sense, whoever has sealed it."""
