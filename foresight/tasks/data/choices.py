"""Questions with lettered choices, and their corrupted form: two choices exchange places, so the letter changes."""

from __future__ import annotations

from collections.abc import Sequence

from .pairing import Row


def choose(question: str, choices: Sequence[str], right: int, letters: Sequence[str]) -> Row:
    """A row that asks for the letter of `choices[right]`; in its corrupted prompt that choice and the next exchange."""

    def text(order: Sequence[str]) -> str:
        listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, order, strict=True))
        return f"{question}{listed}\nAnswer:"

    other = (right + 1) % len(choices)
    swapped = list(choices)
    swapped[right], swapped[other] = choices[other], choices[right]
    return Row(text(choices), f" {letters[right]}", swapped=(text(swapped), f" {letters[other]}"))
