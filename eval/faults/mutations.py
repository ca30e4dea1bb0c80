"""Damaged files: what reads one refuses it and names it, or gives what it gives for the whole file."""

from __future__ import annotations

import json
import random
import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from .acts import NEVER
from .alter import BYTES, JSON, LINES, Change, NothingToChangeError
from .artefacts import ARTEFACTS, Artefact, broken_off, save_forecaster
from .case import Case, Verdict, judged, typed
from .ground import Ground, emptied
from .leaves import Leaves, leaves
from .recipes import RECIPES
from .references import LIMIT, ReferenceError, made_once, reference
from .trusting import trusting
from .warm import Ended, await_all, child, foresight

SHORT = {"delta": 4, "delta forged": 2, "checkpoint by name": 3, "recipe": 2}
"""Of files whose digests are checked by now, or that make no sense."""
TRIES = 60


def cases(seed: int, short: bool) -> list[Case]:
    """As many as each artefact has."""
    counts = SHORT if short else {name: artefact.cases for name, artefact in ARTEFACTS.items()}
    return [Case("mutations", f"{name} {i}", seed) for name, n in counts.items() for i in range(n)]


def attempt(case: Case, ground: Ground, trust: bool = False) -> Verdict:
    """Copy, change, read.

    Args:
        trust: read with digests that agree with anything.
    """
    name, _, number = case.name.rpartition(" ")
    artefact, work, rng = ARTEFACTS[name], ground.cases / case.folder, case.rng
    whole = expected(ground, name)
    lay_out(artefact, ground, work)
    file, did = _change(artefact, ground, work, rng, int(number))
    ended = read(artefact, ground, work, trust)
    names = [file.name, *(part for part in file.relative_to(work).parts[:-1] if part != "snapshots"), *artefact.also]
    if artefact.changes == "recipe":
        names += ["learning_rte", "budget", "policy", "max_steps", "num_train_epochs", "learning_rate", "statik"]
    outcome, words = judged(ended, names, whole, found(artefact, work) if ended.code == 0 else None)
    command = typed(artefact.words(ground, work)) if artefact.words else f"read {file}"
    return Verdict(outcome, words, f"{file.relative_to(work)}: {did}", (command,))


def lay_out(artefact: Artefact, ground: Ground, work: Path) -> None:
    """Copy what an artefact's command reads into a fresh folder."""
    emptied(work)
    for job in artefact.needs:
        reference(ground, job)
    if artefact.act is not None:
        state, log = ground.base.parent / "state.safetensors", work / "made.txt"
        with made_once(state) as missing:
            if missing:
                await_all([child(partial(save_forecaster, state, ground), log)], LIMIT, log)
    for name, place in artefact.given(ground).items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            shutil.copytree(place, work / name)
        else:
            shutil.copyfile(place, work / name)
    if (work / "run" / "checkpoint-8").exists():
        broken_off(work / "run")


def read(artefact: Artefact, ground: Ground, work: Path, trust: bool = False) -> Ended:
    """Run the command that reads, in a child."""
    log = work / "log.txt"
    return await_all([child(partial(_read, artefact, ground, work, log, trust), log)], LIMIT, log)[0]


def _read(artefact: Artefact, ground: Ground, work: Path, log: Path, trust: bool) -> int:
    from foresight.common.errors import ForesightError

    with trusting() if trust else nullcontext():
        if artefact.words is not None:
            return foresight(artefact.words(ground, work), log, NEVER, None)
        assert artefact.act is not None
        try:
            artefact.act(ground, work)
        except ForesightError as error:
            print(f"foresight: error: {error}")
            return 2
    return 0


def found(artefact: Artefact, work: Path) -> Leaves:
    """What the command has left."""
    try:
        return leaves(work, artefact.leaves or ())
    except (ValueError, OSError, KeyError) as error:
        return {"what it left": f"cannot be read: {error!r}"}


def expected(ground: Ground, name: str) -> Leaves | None:
    """What the command leaves when nothing was changed; read once, kept."""
    artefact = ARTEFACTS[name]
    if artefact.leaves is None:
        return None
    kept = ground.references / f"read {name}.json"
    with made_once(kept) as missing:
        if missing:
            work = ground.references / f"read {name}"
            lay_out(artefact, ground, work)
            ended = read(artefact, ground, work)
            if ended.code != 0:
                raise ReferenceError(f"{name}, whole, was not read: {ended.output[-2000:]}")
            kept.write_text(json.dumps(leaves(work, artefact.leaves)))
            shutil.rmtree(work)
    return json.loads(kept.read_text())


def _change(artefact: Artefact, ground: Ground, work: Path, rng: random.Random, number: int) -> tuple[Path, str]:
    """Change one file, as the case says; returns it and what was done."""
    if artefact.changes == "recipe":
        names = sorted(RECIPES)
        return work / "recipe.yaml", RECIPES[names[number % len(names)]](work / "recipe.yaml", rng)
    for _ in range(TRIES):
        pattern = rng.choice(artefact.files)
        files = sorted(path for path in work.glob(pattern) if path.is_file() and path.name[0] != ".")
        if not files:
            continue
        file = rng.choice(files)
        changes: dict[str, Change] = dict(_changes(artefact.changes, file))
        if artefact.chosen:
            changes.pop("remove")
        elif not artefact.changes:
            changes["mixed up"] = partial(_mix_up, artefact, ground, work, files)
        name = rng.choice(sorted(changes))
        before = file.read_bytes()
        try:
            said = changes[name](file, rng)
        except (NothingToChangeError, ValueError):  # ValueError: no JSON, or no text
            continue
        if not file.exists() or file.read_bytes() != before:
            return file, said
    raise ReferenceError(f"nothing to change in {artefact.files}")


def _changes(group: str, file: Path) -> dict[str, Change]:
    """Those of a group, or what can be done to a file of this ending."""
    from .tensors import FORGED, TENSORS  # the process that shows the progress needs no torch

    groups = {"forged": FORGED, "lines": LINES}
    usual = {".json": JSON | BYTES, ".safetensors": TENSORS | BYTES, ".jsonl": LINES}
    return groups[group] if group else usual.get(file.suffix, BYTES)


def _mix_up(artefact: Artefact, ground: Ground, work: Path, files: list[Path], file: Path, rng: random.Random) -> str:
    """Put the file of another run, or another file of this kind, in its place."""
    others = [other for other in files if other != file]
    if artefact.twin is not None:
        job, inside = artefact.twin
        twin = ground.reference(job) / inside / file.name
        others = [twin] if twin.is_file() else others
    if not others:
        raise NothingToChangeError(file.name)
    other = rng.choice(others)
    shutil.copyfile(other, file)
    return f"is {other.parent.name}/{other.name} of {'another run' if artefact.twin else 'this one'}"
