"""Files that carry a checksum of what they hold, so that damage and edits are noticed when they are read.

A JSON object has it under `CHECKSUM`; a safetensors file in its header, over the arrays and the rest of the header.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from .files import read_json, write_json, write_whole

CHECKSUM = "checksum"
_log = logging.getLogger(__name__)
_told = False
"""Whether this process has said that a file has none: a study has hundreds of them."""


def write_sealed(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum, whole or not at all. Raises as `write_json`."""
    plain = json.loads(json.dumps(data, allow_nan=False))
    write_json(path, plain | {CHECKSUM: checksum(plain)})


def read_sealed(path: str | Path) -> dict[str, Any]:
    """Inverse of `write_sealed`.

    Raises:
        OSError: it cannot be read; ValueError: no JSON object, or one that has changed since.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    _verify(path, data.pop(CHECKSUM, None), checksum(data))
    return data


def save_sealed(path: str | Path, arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Write arrays of any dtype and shape as safetensors, with a header of texts and their checksum."""
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    sealed = {**header, CHECKSUM: checksum(dict(header), whole)}
    write_whole(path, lambda temporary: save_file(whole, temporary, sealed))


def load_sealed(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Inverse of `save_sealed`: arrays and header.

    Raises:
        OSError, SafetensorError: it cannot be read; ValueError: it has changed since.
    """
    with safe_open(path, "numpy") as file:
        header = dict(file.metadata() or {})
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    claimed = header.pop(CHECKSUM, None)
    _verify(path, claimed, checksum(header, arrays))
    return arrays, header


def checksum(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> str:
    """SHA-256, 16 hexadecimal digits, of JSON whose keys are in any order, and of arrays by name."""
    found = hashlib.sha256(json.dumps(data, sort_keys=True).encode())
    for name, array in sorted((arrays or {}).items()):
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:16]


def _verify(path: str | Path, claimed: Any, found: str) -> None:
    global _told
    if claimed is None:
        if not _told:
            _log.warning("%s has no checksum, as files of earlier versions, and such files are taken as they are", path)
        _told = True
    elif claimed != found:
        raise ValueError(f"its checksum is {found}, and it says {claimed}: it is damaged, or was changed")
