"""Questions with lettered choices. Their corrupted form swaps two choices, so that the letter changes."""

from __future__ import annotations

from collections.abc import Sequence

from .pairing import Row


def choose(question: str, choices: Sequence[str], right: int, letters: Sequence[str]) -> Row:
    """Make a row that asks for the letter of `choices[right]`; its corrupted prompt swaps that choice with the next."""

    def text(order: Sequence[str]) -> str:
        listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, order, strict=True))
        return f"{question}{listed}\nAnswer:"

    other = (right + 1) % len(choices)
    swapped = list(choices)
    swapped[right], swapped[other] = choices[other], choices[right]
    return Row(text(choices), f" {letters[right]}", swapped=(text(swapped), f" {letters[other]}"))
