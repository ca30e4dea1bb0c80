"""A case of the campaign, and its four possible outcomes."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .leaves import Leaves, differences
from .warm import Ended

OUTCOMES = ("right", "wrong", "traceback", "hang")
TRACEBACK = "Traceback (most recent call last)"
_INSIDE = re.compile(r"\(\S+\.py:\d+\)")
"""How a study names the line of an exception that is not a ForesightError."""


@dataclass(frozen=True)
class Case:
    """One trial of the campaign. Its name and the seed decide all of it."""

    kind: str
    name: str
    seed: int

    @property
    def rng(self) -> random.Random:
        return random.Random(f"{self.seed}/{self.kind}/{self.name}")

    @property
    def folder(self) -> str:
        """A folder name for it."""
        return re.sub(r"[^A-Za-z0-9.=_-]+", "_", f"{self.kind}-{self.name}")


@dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Attributes:
        outcome: right: equal bits to the run that nothing happened to, or a refusal that names the thing; wrong: it
            finished, and what came out differs, or the refusal names nothing; traceback: an exception that is not a
            ForesightError; hang: it took too long.
        words: what differs, or the last lines that it wrote.
        did: what was done, such as the file and the change, or the moment of the kill.
        commands: what was run, one line each.
        seconds, cpu: wall time, and time on a core.
    """

    outcome: str
    words: str = ""
    did: str = ""
    commands: tuple[str, ...] = field(default=())
    seconds: float = 0.0
    cpu: float = 0.0


def judged(ended: Ended, names: Sequence[str], expected: Leaves | None, found: Leaves | None) -> tuple[str, str]:
    """The outcome of a command that reads something which may be damaged, and the words for it.

    Args:
        names: a refusal has to hold one of them, and one of each group that is separated by " + ".
        expected, found: what the command leaves; `expected` is None where only a refusal is right.
    """
    if (broken := broke(ended)) is not None:
        return broken
    if ended.code == 0:
        if expected is None:
            return "wrong", f"was taken as it is: {last_line(ended)}"
        return ("wrong", differ) if (differ := differences(expected, found or {})) else ("right", "equal")
    said = refusal(ended)
    for group in names:
        if all(any(one in said for one in part.split(" | ")) for part in group.split(" + ")):
            return "right", f"refused: {said[:300]}"
    return "wrong", f"refused without naming {' or '.join(names)}: {said[:400]}"


def broke(ended: Ended) -> tuple[str, str] | None:
    """The outcome if a command neither finished nor refused."""
    if ended.code is None:
        return "hang", f"not done after {ended.seconds:.0f} seconds"
    if ended.code not in (0, 1, 2) or (ended.code and (TRACEBACK in ended.output or _INSIDE.search(refusal(ended)))):
        return "traceback", f"exit code {ended.code}: {last_line(ended)}"
    return None


def refusal(ended: Ended) -> str:
    """What a command says when it refuses: its error, and what a study says of runs that failed."""
    found = re.findall(r"^foresight: (?:error: |\d+ runs failed:)[\s\S]*", ended.output, re.MULTILINE)
    return " ".join(" ".join(found).split())


def last_line(ended: Ended) -> str:
    lines = [line for line in ended.output.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:400] if lines else "nothing was written"


def typed(words: Iterable[str | Path], settings: Mapping[str, str] | None = None) -> str:
    """A command as a user types it."""
    return shlex.join(["foresight", *map(str, words)])
