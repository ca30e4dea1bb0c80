"""Changes to a file: what a disk, an editor or a mix-up of folders can do to it. Each returns what it did."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[Path, random.Random], str]


class NothingToChangeError(Exception):
    """The file has no place for this change."""


# -- bytes -------------------------------------------------------------------------------------------------------------


def flip(path: Path, rng: random.Random) -> str:
    data = bytearray(_some(path))
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(bytes(data))
    return f"flipped bit {bit} of byte {at}"


def cut(path: Path, rng: random.Random) -> str:
    data = _some(path)
    size = rng.randrange(len(data))
    path.write_bytes(data[:size])
    return f"cut to {size} of {len(data)} bytes"


def zeros(path: Path, rng: random.Random) -> str:
    data = bytearray(_some(path))
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.choice((8, 512)))
    data[at:end] = bytes(end - at)
    path.write_bytes(bytes(data))
    return f"zeros from byte {at} to {end}"


def empty(path: Path, rng: random.Random) -> str:
    path.write_bytes(b"")
    return "emptied"


def remove(path: Path, rng: random.Random) -> str:
    path.unlink()
    return "removed"


def append(path: Path, rng: random.Random) -> str:
    path.write_bytes(path.read_bytes() + b"\n{}")
    return "appended {}"


def _some(path: Path) -> bytes:
    data = path.read_bytes()
    if not data:
        raise NothingToChangeError(path.name)
    return data


# -- JSON --------------------------------------------------------------------------------------------------------------


def drop_key(path: Path, rng: random.Random) -> str:
    def change(holder: Any, key: Any) -> str:
        del holder[key]
        return "dropped"

    return _json(path, rng, change, lambda holder, key: True)


def repeat_key(path: Path, rng: random.Random) -> str:
    """The key again with another value, which is what most readers take."""
    twin = "\0twin"

    def change(holder: Any, key: Any) -> str:
        items = list(holder.items())
        holder.clear()
        for name, value in items:
            holder[name] = value
            if name == key:
                holder[name + twin] = _other(value, rng)
        return f"repeated with {holder[key + twin]!r:.60}"

    said = _json(path, rng, change, lambda holder, key: isinstance(holder, dict))
    path.write_text(path.read_text().replace(json.dumps(twin)[1:-1], ""))
    return said


def other_value(path: Path, rng: random.Random) -> str:
    def change(holder: Any, key: Any) -> str:
        before, holder[key] = holder[key], _other(holder[key], rng)
        return f"was {before!r:.60} and is {holder[key]!r:.60}"

    return _json(path, rng, change, lambda holder, key: not isinstance(holder[key], (dict, list)))


def number(path: Path, rng: random.Random) -> str:
    """Another number: near, far, negative, or none."""

    def change(holder: Any, key: Any) -> str:
        before = holder[key]
        holder[key] = rng.choice((before + 1, -before - 1, before * 1.5, 0, 10**30, float("nan"), float("inf"), None))
        return f"was {before!r:.60} and is {holder[key]!r:.60}"

    return _json(path, rng, change, lambda holder, key: type(holder[key]) in (int, float))


def other_type(path: Path, rng: random.Random) -> str:
    def change(holder: Any, key: Any) -> str:
        before = holder[key]
        holder[key] = rng.choice(([before], {"value": before}, str(before), True, []))
        return f"was {before!r:.60} and is {holder[key]!r:.60}"

    return _json(path, rng, change, lambda holder, key: True)


def nested(path: Path, rng: random.Random) -> str:
    path.write_text("[" * 100_000)
    return "100,000 open brackets"


def _other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str) and value:
        at = rng.randrange(len(value))
        return value[:at] + ("b" if value[at] == "a" else "a") + value[at + 1 :]
    return [] if isinstance(value, (dict, str)) else {}


def _json(path: Path, rng: random.Random, change: Callable[[Any, Any], str], fits: Callable[[Any, Any], bool]) -> str:
    """Change one place, as likely near the root as in the depths."""
    data = json.loads(path.read_text())
    levels: dict[int, list[tuple[str, Any, Any]]] = {}
    _places(data, "", 0, levels)
    found = {depth: [one for one in places if fits(*one[1:])] for depth, places in levels.items()}
    found = {depth: places for depth, places in found.items() if places}
    if not found:
        raise NothingToChangeError(path.name)
    place, holder, key = rng.choice(found[rng.choice(sorted(found))])
    said = change(holder, key)
    path.write_text(json.dumps(data, indent=1))
    return f"{place} {said}"


def _places(data: Any, at: str, depth: int, levels: dict[int, list[tuple[str, Any, Any]]]) -> None:
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inside:
        levels.setdefault(depth, []).append((f"{at}/{key}", data, key))
        _places(value, f"{at}/{key}", depth + 1, levels)


# -- lines -------------------------------------------------------------------------------------------------------------


def line_gone(path: Path, rng: random.Random) -> str:
    lines = path.read_text().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    path.write_text("".join(lines[:at] + lines[at + 1 :]))
    return f"line {at} is gone"


def line_twice(path: Path, rng: random.Random) -> str:
    lines = path.read_text().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    path.write_text("".join(lines[: at + 1] + lines[at:]))
    return f"line {at} is there twice"


def lines_exchanged(path: Path, rng: random.Random) -> str:
    lines = path.read_text().splitlines(keepends=True)
    one = rng.randrange(len(lines))
    others = [i for i, line in enumerate(lines) if line != lines[one]]
    if not others:
        raise NothingToChangeError(path.name)
    other = rng.choice(others)
    lines[one], lines[other] = lines[other], lines[one]
    path.write_text("".join(lines))
    return f"lines {one} and {other} are exchanged"


def word_exchanged(path: Path, rng: random.Random) -> str:
    """The values of one column of two rows."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    name = rng.choice(sorted(lines[0]))
    one = rng.randrange(len(lines))
    others = [i for i, line in enumerate(lines) if line[name] != lines[one][name]]
    if not others:
        raise NothingToChangeError(path.name)
    other = rng.choice(others)
    lines[one][name], lines[other][name] = lines[other][name], lines[one][name]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"{name} of rows {one} and {other} is exchanged"


BYTES: dict[str, Change] = {one.__name__: one for one in (flip, cut, zeros, empty, remove, append)}
JSON: dict[str, Change] = {
    one.__name__: one for one in (drop_key, repeat_key, other_value, number, other_type, nested, cut, flip)
}
LINES: dict[str, Change] = {
    one.__name__: one for one in (line_gone, line_twice, lines_exchanged, word_exchanged, cut, flip, empty, remove)
}
