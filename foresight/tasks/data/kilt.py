"""The format of KILT's tables (Petroni et al., 2021), which two tasks share."""

from __future__ import annotations

from ...common.errors import DataError
from .pairing import Raw


def first_answer(raw: Raw) -> str | None:
    """Return the first answer in the column output, a list of {"answer": text, ...}; None in test splits without one.

    Raises:
        DataError: the column has another format.
    """
    output = raw["output"]
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        raise DataError(f"output is {output!r}, expected a list of {{'answer': ...}}")
    answers = (item.get("answer") for item in output)
    return next((answer.strip() for answer in answers if answer and answer.strip()), None)
