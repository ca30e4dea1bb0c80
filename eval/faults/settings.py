"""One setting changed at --resume: applied and recorded, refused with both values, or of no consequence, as documented.

What is expected of each is written here, not read from the code that decides it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .acts import NEVER
from .artefacts import Artefact
from .case import Case, Verdict, broke, judged, typed
from .ground import Ground
from .jobs import JOBS, RUN, train_words
from .leaves import differences, leaves
from .mutations import lay_out
from .references import LIMIT, reference
from .warm import await_all, child, foresight

APPLIED, REFUSED, FREE = "applied", "refused", "free"
JOB = "components"
ROUNDING = 1e-4
"""Adam divides by small numbers, so that a difference in a last bit grows."""
LEARNED = tuple(pattern for pattern in RUN if pattern.startswith(("delta", "schedule", "trajectory/snap")))


@dataclass(frozen=True)
class Change:
    """A setting that gets another value, and what comes of it.

    Attributes:
        values: what a refusal has to say that it was and is.
        rounds: numbers are added up in another order, so that what was learned is equal but for rounding.
        changes_nothing: the new value matters to none of the steps that are left, so that equal bits are right.
        name: of the setting in the message, if it has another one there.
    """

    setting: str
    value: Any
    expected: str
    values: tuple[str, ...] = ()
    changes_nothing: bool = False
    rounds: bool = False
    name: str = ""
    more: tuple[tuple[str, Any], ...] = ()


CHANGES: tuple[Change, ...] = (
    Change("learning_rate", 0.02, APPLIED),
    Change("lr_scheduler_type", "constant", APPLIED),
    Change("warmup_steps", 7, APPLIED),
    Change("max_grad_norm", 0.01, APPLIED),
    Change("weight_decay", 0.5, APPLIED),
    Change("max_steps", 10, APPLIED),
    Change("max_steps", 7, APPLIED),
    Change("num_train_epochs", 9, APPLIED, changes_nothing=True),
    Change("seed", 4, REFUSED, ("3", "4")),
    Change("data_seed", 9, REFUSED, ("None", "9")),
    Change("adam_beta1", 0.8, REFUSED, ("0.9", "0.8")),
    Change("adam_beta2", 0.9, REFUSED, ("0.999", "0.9")),
    Change("adam_epsilon", 1e-4, REFUSED, ("1e-08", "0.0001")),
    Change("per_device_train_batch_size", 2, REFUSED, ("4", "2"), name="rows of a step"),
    Change("gradient_accumulation_steps", 2, REFUSED, ("4", "8"), name="rows of a step"),
    Change("max_length", 512, REFUSED, ("1024", "512")),
    Change("packing", "true", REFUSED, ("False", "True")),
    Change("budget", 0.1, REFUSED, ("0.2", "0.1")),
    Change("policy", "reactive", REFUSED, ("foresight", "reactive"),
           more=(("probe_every", None), ("policy_params.watch_steps", None))),
    Change("granularity", "vectors", REFUSED, ("components", "vectors")),
    Change("policy_params.watch_steps", 4, REFUSED, ("{'watch_steps': 2}", "{'watch_steps': 4}"), name="policy_params"),
    Change("policy_params.watch", "rotate", REFUSED, name="policy_params + rotate"),
    Change("remask_every", 4, REFUSED, ("2", "4")),
    Change("probe_every", 4, REFUSED, ("2", "4"), more=(("remask_every", 4),)),
    Change("probe_examples", 4, REFUSED, ("8", "4")),
    Change("forecaster", "mean", REFUSED, name="forecaster was + is 'mean'"),
    Change("scorer", "gradient", REFUSED, ("auto", "gradient")),
    Change("mlp_block", 4, REFUSED, ("None", "4")),
    Change("task", "boolean", REFUSED, name="training rows"),
    Change("task_examples", 40, REFUSED, name="training rows"),
    Change("task_contrast_examples", 4, REFUSED, name="contrast | scored | probe"),
    Change("model", "other", REFUSED, name="model weights"),
    Change("dtype", "bfloat16", REFUSED, name="model weights"),
    Change("task_eval_examples", 16, FREE),
    Change("logging_steps", 1, FREE),
    Change("save_steps", 1, FREE),
    Change("save_total_limit", 1, FREE),
    Change("per_device_eval_batch_size", 2, FREE),
    Change("gradient_accumulation_steps", 2, FREE, more=(("per_device_train_batch_size", 2),), rounds=True),
    Change("dataloader_num_workers", 1, FREE),
)  # fmt: skip
"""Forty of them."""
SHORT = ("learning_rate", "seed", "logging_steps")
_COPY = Artefact(0, lambda ground: {"run": ground.reference(JOB)}, (), None, needs=(JOB,))


def cases(seed: int, short: bool) -> list[Case]:
    """One per change."""
    chosen = [change for change in CHANGES if not short or change.setting in SHORT]
    return [Case("settings", _title(change), seed) for change in chosen]


def attempt(case: Case, ground: Ground) -> Verdict:
    """Break a run off after its fourth step, and go on with the change."""
    change = next(one for one in CHANGES if _title(one) == case.name)
    work, known = ground.cases / case.folder, reference(ground, JOB)
    lay_out(_COPY, ground, work)
    before = _bytes(work / "run")
    given = {**JOBS[JOB].kept, **{name.replace(".", "__"): value for name, value in change.more}}
    value = ground.other if change.setting == "model" else change.value
    words = [*train_words(ground, work / "run", **{**given, change.setting.replace(".", "__"): value}), "--resume"]
    log = work / "log.txt"
    ended = await_all([child(lambda: foresight(words, log, NEVER, None), log)], LIMIT, log)[0]
    did, line = f"{change.setting} became {change.value}, expected {change.expected}", (typed(words),)
    if change.expected == REFUSED:
        both = [f"{word} {value} | {word} '{value}'" for word, value in zip(("was", "is"), change.values, strict=False)]
        names = [" + ".join((change.name or change.setting.partition(".")[0], *both))]
        outcome, said = judged(ended, names, None, None)
        if outcome == "right" and _bytes(work / "run") != before:
            outcome, said = "wrong", "refused, but the folder has changed"
        return Verdict(outcome, said, did, line)
    if (broken := broke(ended)) is not None or ended.code != 0:
        return Verdict(*(broken or ("wrong", f"refused: {ended.output[-400:]}")), did, line)
    differ = differences(_learned(known.leaves), leaves(work / "run", LEARNED))
    if change.rounds:
        differ = _farther(ground.reference(JOB) / "delta", work / "run" / "delta")
    if change.expected == FREE:
        return Verdict("wrong" if differ else "right", differ or "equal", did, line)
    if said := _not_recorded(work / "run", change):
        return Verdict("wrong", said, did, line)
    if not differ and not change.changes_nothing:
        return Verdict("wrong", "recorded, but nothing of what was learned has changed", did, line)
    return Verdict("right", "applied and recorded", did, line)


def _farther(one: Path, other: Path) -> str:
    """Whether two deltas differ by more than rounding, in words; empty if they do not."""
    import torch
    from safetensors.torch import load_file

    tensors = [load_file(folder / "delta.safetensors") for folder in (one, other)]
    if tensors[0].keys() != tensors[1].keys():
        return "other tensors have changed"
    far = max(float((tensors[0][name].double() - tensors[1][name].double()).abs().max()) for name in tensors[0])
    return "" if torch.isfinite(torch.tensor(far)) and far < ROUNDING else f"differs by {far:g}"


def prepare(ground: Ground, short: bool) -> None:
    """The run that is broken off."""
    reference(ground, JOB)


def _title(change: Change) -> str:
    more = "".join(f", {name}={value}" for name, value in change.more)
    return f"{change.setting}={change.value}{more}"


def _learned(found: dict[str, str]) -> dict[str, str]:
    return {
        place: value for place, value in found.items() if place.startswith(("delta", "schedule", "trajectory/snap"))
    }


def _not_recorded(run: Path, change: Change) -> str:
    """What is wrong with what config.json says of the change; empty if it says it."""
    said: list[dict[str, Any]] = json.loads((run / "config.json").read_text()).get("resumed", [])
    found = said[-1]["changed"].get(change.setting) if said else None
    number = isinstance(change.value, (int, float))
    same = found is not None and (found[1] == change.value if number else str(found[1]).endswith(str(change.value)))
    return "" if same and said[-1]["step"] == 4 else f"config.json says {said!r:.200}"


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."}
