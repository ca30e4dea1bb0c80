"""Readers that trust every digest: what the campaign finds where nothing is checked, which shows that it looks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from typing import Any

_DIGESTS = ("sha256", "_checksum", "digest", "text_digest", "checksum")
"""What foresight's modules call their functions that make digests of files and of data."""


class Agreeable(str):
    """A digest that is equal to every other one."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


@contextlib.contextmanager
def trusting() -> Iterator[None]:
    """Make every digest agree with every other, in all modules of foresight."""
    for name in ("foresight.bank.delta", "foresight.training.checkpoint", "foresight.trajectory.folder"):
        import_module(name)
    changed: list[tuple[Any, str, Any]] = []
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "foresight"]
    try:
        for module in modules:
            for name in _DIGESTS:
                found = vars(module).get(name)
                if callable(found) and not isinstance(found, type):
                    changed.append((module, name, found))
                    setattr(module, name, _agreeable(found))
        yield
    finally:
        for module, name, found in changed:
            setattr(module, name, found)


def _agreeable(digest: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(digest)
    def trusted(*args: Any, **kwargs: Any) -> Any:
        found = digest(*args, **kwargs)
        return Agreeable(found) if isinstance(found, str) else found

    return trusted
