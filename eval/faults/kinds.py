"""The kinds of faults, each a module with `cases(seed, short)` and `attempt(case, ground)`."""

from __future__ import annotations

from types import ModuleType

from . import kills, mutations, ranks, rows, settings, unchecked

KINDS: dict[str, ModuleType] = {
    "kills": kills,
    "mutations": mutations,
    "settings": settings,
    "ranks": ranks,
    "rows": rows,
    "unchecked": unchecked,
}
