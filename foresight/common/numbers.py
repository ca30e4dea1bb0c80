"""Numbers as people read them: with a real minus sign, a dash where there is none, and intervals in brackets."""

from __future__ import annotations

from math import isfinite

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
