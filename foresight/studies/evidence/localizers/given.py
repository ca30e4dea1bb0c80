"""Localization that somebody else has done: a list of heads."""

from __future__ import annotations

from collections.abc import Sequence

from ....common.errors import ConfigError
from ..intervention import head_taps
from .base import Case, Localizer
from .registry import register


@register("given")
class Given(Localizer):
    """The user's own list, the most important head first.

    Args:
        heads: names such as L12.head.3.

    Raises:
        ConfigError: none given, or one that the model does not have.
    """

    def __init__(self, heads: Sequence[str]):
        if isinstance(heads, str):
            raise ConfigError(f"heads is {heads!r}; expected a list such as [L12.head.3]")
        self.heads = tuple(heads)

    def scores(self, case: Case) -> dict[str, float]:
        head_taps(case.table, self.heads)  # refuses what is no head
        return {name: float(-i) for i, name in enumerate(self.heads)}
