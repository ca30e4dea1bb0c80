"""The commands that write: how each is typed, how it is typed again after a kill, and what of it is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ground import TASK, Ground

RUN = ("delta/*", "schedule.json", "masks/*", "trajectory/*.json", "trajectory/snapshots/*", "config.json",
       "checkpoint-8/foresight.safetensors", "checkpoint-8/trainer_state.json", "base/*")  # fmt: skip
"""What of a training run is compared: all but clocks, cards and the last checkpoint's other files."""
STEPS = 8
TRAIN: Mapping[str, Any] = dict(
    task=TASK, task_examples=48, task_eval_examples=8, task_contrast_examples=16, max_steps=STEPS, learning_rate=0.01,
    per_device_train_batch_size=4, save_strategy="steps", save_steps=2, logging_steps=2, budget=0.2,
    remask_every=2, probe_examples=8, seed=3, use_cpu="true", bf16="false", gradient_checkpointing="false",
    report_to="none", disable_tqdm="true",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A command with its settings.

    Attributes:
        words: the command line, by ground and output folder; again: what is typed after a kill.
        leaves: patterns of the files that are compared.
        refuses: the command goes on with nothing: after a kill it refuses what it finds, and begins in another folder.
        needs: jobs whose references it reads.
        ranks: processes.
    """

    name: str
    command: str
    words: Callable[[Ground, Path], list[str]]
    leaves: tuple[str, ...]
    again: tuple[str, ...] = ()
    refuses: bool = False
    needs: tuple[str, ...] = ()
    ranks: int = 1
    kept: dict[str, Any] = field(default_factory=dict)


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line; lists as several words, None as left out."""
    found: list[str] = []
    for name, value in settings.items():
        if value is not None:
            found += [f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return found


def train_words(ground: Ground, out: Path, **settings: Any) -> list[str]:
    """A training run of `TRAIN`, with other settings; None leaves one out."""
    named = {key.replace("__", "."): value for key, value in settings.items()}
    return ["train", *flags({**TRAIN, "model": ground.base, "output_dir": out, **named})]


def _train(name: str, needs: tuple[str, ...] = (), ranks: int = 1, **settings: Any) -> Job:
    def words(ground: Ground, out: Path) -> list[str]:
        given = {k: v(ground) if callable(v) else v for k, v in settings.items()}
        return train_words(ground, out, **given)

    return Job(name, "train", words, RUN, ("--resume",), needs=needs, ranks=ranks, kept=settings)


def _fine(**settings: Any) -> dict[str, Any]:
    return dict(granularity="weights", budget=0.05, probe_examples=None, **settings)


_COMPARE = dict(
    target_tasks=TASK, tuning_tasks="boolean", retained_tasks="reverse", arms=["full", "static", "reactive"],
    primary_arm="reactive", primary_against="static", seeds=1, learning_rates=0.01, steps=4, batch_size=4,
    train_examples=24, remask_every=2, probe_every=1, probe_examples=8, evaluations=2, eval_examples=8, workers=1,
)  # fmt: skip
_TRACK = dict(
    tasks=[TASK, "boolean"], seeds=1, strategies=["free", "random"], max_steps=4, probe_every=2, probe_examples=8,
    task_examples=16, task_eval_examples=8, per_device_train_batch_size=4, learning_rate=0.01, budget=0.2,
    curves="false", use_cpu="true", bf16="false", gradient_checkpointing="false", save_strategy="no",
    logging_strategy="no", report_to="none",
)  # fmt: skip
_EVIDENCE = dict(
    behaviour=TASK, invert="true", retained_tasks="reverse", heads=1, draws=2, localizers="probes", learning_rates=0.1,
    strengths=2.0, epochs=1, train_questions=8, validation_questions=8, test_questions=8, retained_examples=4,
    workers=1,
)  # fmt: skip
_MAPPED = ("full", "weights-random", "components")
RESULTS = ("results.json", "runs/*/result.json", "*.parquet")


def _export(name: str, form: str, of: str, inside: str = "") -> Job:
    def words(ground: Ground, out: Path) -> list[str]:
        return ["export", str(ground.reference(of) / inside), "--to", form, "--out", str(out)]

    kept = ("*.safetensors", "*.json") if form == "merged" else ("delta.*",)
    return Job(name, "export", words, kept, refuses=True, needs=(of,))


def bench_words(ground: Ground, out: Path, runs: Path | None = None) -> list[str]:
    named = ["persistence", "mean", "ridge"]
    return ["forecasters", "bench", *named, "--runs", str(runs or ground.corpus), "--out", str(out)]


JOBS: dict[str, Job] = {job.name: job for job in (
    _train("components", policy="foresight", policy_params__watch_steps=2, probe_every=2),
    _train("components-b", policy="foresight", policy_params__watch_steps=2, probe_every=2, seed=4),
    _train("own-rows", policy="reactive", task=None, task_examples=None, task_eval_examples=None,
           task_contrast_examples=None, dataset=lambda ground: ground.rows, contrast=lambda ground: ground.pairs,
           retained=lambda ground: ground.kept, replay_share=0.25),
    _train("vectors", policy="reactive", granularity="vectors"),
    _train("random", policy="random", policy_params__redraw="true", probe_examples=None),
    _train("full", policy="full", record="true", probe_every=2, budget=None, remask_every=None, save_total_limit=2),
    _train("weights-random", **_fine(policy="random", policy_params__redraw="true")),
    _train("accumulation", policy="reactive", per_device_train_batch_size=2, gradient_accumulation_steps=2),
    _train("bf16", policy="foresight", policy_params__watch_steps=2, probe_every=2, dtype="bfloat16", bf16="true"),
    _train("replay-share", policy="reactive", replay_share=0.25, retained=lambda ground: ground.kept),
    _train("shipped", policy="reactive", model=None, budget=0.05),
    _train("zero2", ranks=2, policy="reactive", deepspeed=lambda ground: ground.zero, per_device_train_batch_size=2),
    Job("compare", "compare",
        lambda g, out: ["compare", *flags({**_COMPARE, "models": g.base}), "--out", str(out)], RESULTS),
    Job("track", "track", lambda g, out: ["track", *flags({**_TRACK, "model": g.base}), "--out", str(out)],
        ("analysis/*", "measured.json", "runs/*/result.json", "runs/*/run/recording/**/*", "runs/*/run/delta/*"),
        ("--resume",)),
    Job("evidence", "evidence",
        lambda g, out: ["evidence", *flags({**_EVIDENCE, "model": g.base}), "--out", str(out)], RESULTS),
    Job("bench", "forecasters bench", bench_words, ("leaderboard.json", "runs/*/result.json")),
    Job("maps", "maps",
        lambda g, out: ["maps", *(str(g.reference(job)) for job in _MAPPED), "--model", str(g.base), "--out", str(out)],
        ("*.safetensors",), refuses=True, needs=_MAPPED),
    _train("weights-maps", needs=("maps",),
           **_fine(policy="foresight", policy_params__maps=lambda ground: ground.reference("maps"))),
    _export("export-merged", "merged", "components"),
    _export("export-delta", "delta", "weights-random"),
    _export("export-checkpoint", "merged", "components", "checkpoint-4"),
)}  # fmt: skip
"""By name, each after those that it needs."""
