"""What a command leaves behind, as one flat table that can be compared and kept: without clocks and its own place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Leaves = dict[str, str]
"""File and place in it -> value, or digest of what is there."""

CLOCKS = re.compile(
    r"second|runtime|elapsed|(^|[_/ ])(time|times|pace|date|environment|cost|git)($|[_/ ])|memory|_flos|created|peak|"
    r"output_dir|logging_dir|run_name|resumed|checkpoint|(scoring|tracking)_share|(^|[/ ])checksum$",
    re.IGNORECASE,
)
"""What differs between equal runs: how long they took, where they lie, and checksums over that."""
_TIMED = re.compile("of the time|seconds")
"""Sentences about it."""
COUNTED = re.compile("num_tokens")
"""TRL counts the tokens of a process: a resumed run begins at 0 again. Compared nowhere."""
_SHOWN = 3


def leaves(folder: Path, patterns: Sequence[str]) -> Leaves:
    """Everything in the files below a folder that match one of the patterns, by file and place."""
    found: Leaves = {}
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                name = _name(path.relative_to(folder).as_posix())
                found |= {f"{name} {place}".rstrip(): value for place, value in _contents(path, folder)}
    return found


def differences(expected: Leaves, found: Leaves) -> str:
    """The first places that differ, in words; empty if none does."""
    places = [place for place in {**expected, **found} if expected.get(place) != found.get(place)]
    shown = [f"{place}: {found.get(place, 'missing')!s:.60}, not {expected.get(place, 'missing')!s:.60}"
             for place in places[:_SHOWN]]  # fmt: skip
    return "; ".join(shown) + (f"; and {len(places) - _SHOWN} more" if len(places) > _SHOWN else "")


def _name(path: str) -> str:
    """A snapshot's name holds a digest of its content, which is compared by itself."""
    return re.sub(r"-[0-9a-f]{16}\.safetensors$", ".safetensors", path)


def _contents(path: Path, root: Path) -> Iterator[tuple[str, str]]:
    if path.suffix == ".safetensors":
        yield from _tensors(path)
    elif path.suffix == ".json":
        for place, value in _flat(json.loads(path.read_text())):
            if not CLOCKS.search(place) and not COUNTED.search(place) and not _TIMED.search(str(value)):
                yield place, str(value).replace(str(root.resolve()), "OUT").replace(str(root), "OUT")
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        for name, column in pq.read_table(path, use_threads=False).to_pydict().items():
            if not CLOCKS.search(name):
                yield name, _digest(repr(column).encode())
    else:
        yield "", _digest(path.read_bytes())


def _tensors(path: Path) -> Iterator[tuple[str, str]]:
    """The header's entry of each tensor, and a digest of its bytes, whatever their order in the file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__" or CLOCKS.search(name):
            continue
        start, end = entry["data_offsets"]
        yield name, f"{entry['dtype']} {entry['shape']} {_digest(data[8 + size + start : 8 + size + end])}"


def _flat(data: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _flat(value, f"{place}/{key}")
    elif isinstance(data, list) and data:
        for i, value in enumerate(data):
            yield from _flat(value, f"{place}/{i}")
    else:
        yield place, data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
