"""How large the package is, and how much of it `foresight train` reads, compared with the limits that we set.

    python -m eval.size

What `foresight train` reads is the static import closure of its command. Imports inside functions and under
TYPE_CHECKING count, and so does the ``__init__.py`` of every folder on the way. Modules that are loaded by name do not
count (tasks, scorers, forecasters, policies, scouting, single weights), nor do the other commands, which
`foresight.cli` imports on use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from .imports import Package

ROOT = Path(__file__).parents[1] / "foresight"
COMMAND = "foresight.commands.train"
LONGEST = 8
LIMITS = {
    "files that train reads": 80,
    "lines that train reads": 8_500,
    "lines of the package": 25_000,
    "lines of the longest file": 400,
    "settings of our own": 27,
}


def main() -> None:
    package = Package(ROOT)
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in package.files.items()}
    figures = measured(package, lines)
    for what, value in figures.items():
        print(f"{what:30}{value:8,}{_beside(value, LIMITS.get(what))}")
    print("\nlines by room")
    for room, count in rooms(lines).items():
        print(f"  {room:26}{count:8,}")
    print("\nlongest files")
    for name in sorted(lines, key=lambda name: -lines[name])[:LONGEST]:
        print(f"  {lines[name]:6}  {package.files[name].relative_to(ROOT.parent)}")


def measured(package: Package, lines: dict[str, int]) -> dict[str, int]:
    """Every figure by what it counts, in the order in which they are printed."""
    read = package.closure(COMMAND) | {"foresight.cli"}
    return {
        "files that train reads": len(read),
        "lines that train reads": sum(lines[name] for name in read),
        "files of the package": len(lines),
        "lines of the package": sum(lines.values()),
        "lines of the longest file": max(lines.values()),
        "settings of our own": len(own_settings()),
        **{what: len(list(names)) for what, names in _names().items()},
    }


def own_settings() -> list[str]:
    """Fields of ForesightConfig that SFTConfig lacks."""
    from trl import SFTConfig

    from foresight import ForesightConfig

    theirs = {field.name for field in fields(SFTConfig)}
    return [field.name for field in fields(ForesightConfig) if field.name not in theirs]


def rooms(lines: dict[str, int]) -> dict[str, int]:
    """Lines by the folder or file at the top of the package, largest first."""
    found: dict[str, int] = {}
    for name, count in lines.items():
        room = name.partition(".")[2].partition(".")[0] or "__init__"
        found[room] = found.get(room, 0) + count
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _beside(value: int, limit: int | None) -> str:
    if limit is None:
        return ""
    return f"   at most {limit:,}" + (f": {value - limit:,} too many" if value > limit else "")


def _names() -> dict[str, Iterable[str]]:
    from foresight.policies.catalogue import POLICIES, takers
    from foresight.studies.compare.arms import ARMS

    of_weights = takers("budget", "weights")  # all of them have one
    return {"policies": POLICIES, "policies over single weights": of_weights, "arms": ARMS}


if __name__ == "__main__":
    main()
