"""The campaign looks: where no digest is checked, it sees the silent wrong answer that a changed number makes.

A case is right if what a reader with trusting digests left was judged wrong.
"""

from __future__ import annotations

from .artefacts import ARTEFACTS
from .case import Case, Verdict, judged, typed
from .ground import Ground
from .mutations import expected, found, lay_out, read

SILENT = (
    ("delta", "run/delta/delta.safetensors", "negative", ".values"),
    ("delta", "run/delta/delta.safetensors", "permuted", ".values"),
    ("checkpoint by name", "run/checkpoint-4/foresight.safetensors", "negative", "bank.vectors"),
    ("checkpoint, exported", "run/checkpoint-4/foresight.safetensors", "negative", "bank.vectors"),
    ("trajectory, for an oracle", "trajectory/snapshots/*-00000008-*", "permuted", "/values"),
)
"""Artefact, file, change and the end of the tensor's name."""
SHORT = 3


def cases(seed: int, short: bool) -> list[Case]:
    """One per change."""
    return [Case("unchecked", f"{one[0]}, {one[2]}", seed) for one in SILENT[: SHORT if short else None]]


def attempt(case: Case, ground: Ground) -> Verdict:
    """Change a number, read it with digests that agree with anything."""
    from .tensors import change_of

    name, pattern, act, end = next(one for one in SILENT if f"{one[0]}, {one[2]}" == case.name)
    artefact, work = ARTEFACTS[name], ground.cases / case.folder
    whole = expected(ground, name)
    lay_out(artefact, ground, work)
    (file,) = work.glob(pattern)
    did = f"{file.relative_to(work)}: {change_of(act, end)(file, case.rng)}"
    ended = read(artefact, ground, work, trust=True)
    outcome, words = judged(ended, [file.name], whole, found(artefact, work) if ended.code == 0 else None)
    command = (typed(artefact.words(ground, work)),) if artefact.words else ()
    if outcome == "wrong" and ended.code == 0:
        return Verdict("right", f"seen: {words}", did, command)
    return Verdict("wrong", f"the silent wrong answer was not seen: {outcome}: {words}", did, command)
