"""Numbers as people read them (with a real minus sign, a dash where there is none), and as JSON can hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from math import isfinite
from typing import Any

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number with a real minus sign, or return a dash if it is None or not finite."""
    if value is None or not isfinite(value):
        return DASH
    digits = int(form.rstrip("f%").split(".")[1]) + (2 if form.endswith("%") else 0)
    return format(round(value, digits) + 0.0, form).replace("-", MINUS)  # adding zero removes the sign of -0.0


def bracketed(
    mean: float | None,
    low: float | None,
    high: float | None,
    form: str = "+.2f",
    alone: str = "",
    scale: float = 1,
    unit: str = "",
) -> str:
    """Format a mean, its unit, and its interval in brackets; `alone` follows a mean that has no interval."""
    if mean is None:
        return DASH
    if low is None or high is None:
        return number(scale * mean, form) + unit + alone
    return f"{number(scale * mean, form)}{unit} [{number(scale * low, form)}, {number(scale * high, form)}]"


def size(count: float) -> str:
    """Bytes in a readable unit: 1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 75.2 -> '0:01:15'."""
    return str(timedelta(seconds=round(seconds)))


def json_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return flat rows with None in place of every float that JSON cannot represent."""
    return [{k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()} for row in rows]
