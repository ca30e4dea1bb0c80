"""Every kind of file that foresight reads back: where a whole one comes from, and the command that reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ground import Ground
from .jobs import JOBS, RUN, bench_words, train_words

Places = Callable[[Ground], dict[str, Path]]


@dataclass(frozen=True)
class Artefact:
    """Files, and what reads them.

    Attributes:
        cases: how many changes are tried.
        given: what is copied: name in the folder of the case -> from where.
        files: patterns of the files that are changed, in that folder.
        words: the command that reads them, by ground and folder; `act` instead where there is none.
        leaves: patterns of what it leaves, in the folder; None where only a refusal is right.
        needs: jobs whose references are copied.
        twin: a job whose files may be mixed up with these: pattern by pattern; by default others of the same pattern.
        chosen: the user names these files, and any whole file of their kind will do: what is not there cannot be
            missed, and what is there is what was meant. They are neither mixed up nor removed.
        also: further words that a refusal may name.
        changes: a group of changes (see `mutations`), by default those of the file's ending.
    """

    cases: int
    given: Places
    files: tuple[str, ...]
    leaves: tuple[str, ...] | None
    words: Callable[[Ground, Path], list[str]] | None = None
    act: Callable[[Ground, Path], None] | None = None
    needs: tuple[str, ...] = ()
    twin: tuple[str, str] | None = None
    chosen: bool = False
    also: tuple[str, ...] = ()
    changes: str = ""


def _of(job: str, inside: str = "") -> Callable[[Ground], Path]:
    return lambda ground: ground.reference(job) / inside


def _given(**places: Callable[[Ground], Path]) -> Places:
    return lambda ground: {name.replace("__", "/"): place(ground) for name, place in places.items()}


def broken_off(run: Path) -> None:
    """Make a finished run of eight steps one that was killed after its fourth."""
    for gone in ("delta", "checkpoint-8", "checkpoint-6"):
        shutil.rmtree(run / gone, ignore_errors=True)


def _resumed(job: str, **changes: Any) -> Callable[[Ground, Path], list[str]]:
    def words(ground: Ground, folder: Path) -> list[str]:
        given = {k: v(ground) if callable(v) else v for k, v in JOBS[job].kept.items()}
        here = {k: v(folder) if callable(v) else v for k, v in changes.items()}
        return [*train_words(ground, folder / "run", **{**given, **here}), "--resume"]

    return words


def _named_checkpoint(ground: Ground, folder: Path) -> list[str]:
    words = _resumed("components")(ground, folder)[:-1]
    return [*words, "--resume_from_checkpoint", str(folder / "run" / "checkpoint-4")]


_BARE: Mapping[str, Any] = dict(probe_examples=None, remask_every=None, save_strategy="no", save_steps=None)


def _begun(**settings: Any) -> Callable[[Ground, Path], list[str]]:
    """A short run that begins with what is read."""

    def words(ground: Ground, folder: Path) -> list[str]:
        here = {k: v(folder) if callable(v) else v for k, v in settings.items()}
        return train_words(ground, folder / "out", **{**_BARE, **here})

    return words


def _again(job: str) -> Callable[[Ground, Path], list[str]]:
    """The command that made a study, in the copy."""
    return lambda ground, folder: [*JOBS[job].words(ground, folder / "study"), *JOBS[job].again]


def save_forecaster(path: Path, ground: Ground) -> None:
    """A forecaster that has learned from the small corpus."""
    from foresight.forecasters import make_forecaster
    from foresight.studies.bench.corpus import read_corpus

    runs = read_corpus(ground.corpus)
    make_forecaster("ridge").pretrain([run.series for run in runs[1:]]).fit(runs[0].series).save(path)


def load_forecaster(ground: Ground, folder: Path) -> None:
    """Read its state and forecast."""
    from foresight.forecasters import make_forecaster

    found = make_forecaster("ridge").load(folder / "state.safetensors").predict(8)
    (folder / "forecast.json").write_text(json.dumps(found.tolist()))


_LEAVES_RUN = tuple(f"run/{pattern}" for pattern in RUN)
_BEGUN = ("out/delta/*", "out/schedule.json")
ARTEFACTS: dict[str, Artefact] = {
    "delta": Artefact(
        45, _given(run__delta=_of("components", "delta")), ("run/delta/*",), ("out/*.safetensors", "out/*.json"),
        lambda g, f: ["export", str(f / "run"), "--to", "merged", "--out", str(f / "out")],
        needs=("components", "components-b"), twin=("components-b", "delta")),
    "delta forged": Artefact(
        20, _given(run__delta=_of("components", "delta")), ("run/delta/delta.safetensors",), None,
        lambda g, f: ["export", str(f / "run"), "--to", "merged", "--out", str(f / "out")],
        needs=("components",), changes="forged"),
    "delta of weights, for maps": Artefact(
        15, _given(run__delta=_of("weights-random", "delta")), ("run/delta/*",), ("out/*",),
        lambda g, f: ["maps", str(f / "run"), "--model", str(g.base), "--out", str(f / "out")],
        needs=("weights-random",)),
    "delta, copied": Artefact(
        15, _given(run__delta=_of("components", "delta")), ("run/delta/*",), ("out/delta.*",),
        lambda g, f: ["export", str(f / "run"), "--to", "delta", "--out", str(f / "out")],
        needs=("components", "components-b"), twin=("components-b", "delta")),
    "schedule": Artefact(
        30, lambda g: {"schedule.json": g.reference("components") / "schedule.json"}, ("schedule.json",), _BEGUN,
        _begun(policy="replay", policy_params__mask_schedule=lambda f: f / "schedule.json"),
        needs=("components",), chosen=True),
    "schedule of weights": Artefact(
        20, lambda g: {name: g.reference("weights-random") / name for name in ("schedule.json", "masks")},
        ("schedule.json", "masks/*"), _BEGUN,
        _begun(policy="replay", granularity="weights", budget=0.05,
               policy_params__mask_schedule=lambda f: f / "schedule.json"), needs=("weights-random",)),
    "trajectory, for an oracle": Artefact(
        25, _given(trajectory=_of("full", "trajectory")), ("trajectory/*.*", "trajectory/snapshots/*"), _BEGUN,
        _begun(policy="oracle", policy_params__oracle_trajectory=lambda f: f / "trajectory"), needs=("full",)),
    "trajectory, for a prior": Artefact(
        15, _given(trajectory=_of("full", "trajectory")), ("trajectory/*.*", "trajectory/snapshots/*"), _BEGUN,
        _begun(policy="prior", history=lambda f: f / "trajectory"), needs=("full",)),
    "checkpoint": Artefact(
        40, _given(run=_of("components")), ("run/checkpoint-4/*",), _LEAVES_RUN, _resumed("components"),
        needs=("components", "components-b"), twin=("components-b", "checkpoint-4")),
    "checkpoint by name": Artefact(
        30, _given(run=_of("components")), ("run/checkpoint-4/*",), _LEAVES_RUN, _named_checkpoint,
        needs=("components", "components-b"), twin=("components-b", "checkpoint-4")),
    "checkpoint of weights": Artefact(
        15, _given(run=_of("weights-random")), ("run/checkpoint-4/*",), _LEAVES_RUN,
        _resumed("weights-random"), needs=("weights-random",)),
    "checkpoint, exported": Artefact(
        15, _given(run=_of("components")), ("run/checkpoint-4/*",), ("out/*.safetensors", "out/*.json"),
        lambda g, f: ["export", str(f / "run" / "checkpoint-4"), "--to", "merged", "--out", str(f / "out")],
        needs=("components", "components-b"), twin=("components-b", "checkpoint-4")),
    "files beside checkpoints": Artefact(
        25, _given(run=_of("components")), ("run/*.json", "run/trajectory/*.*", "run/trajectory/snapshots/*"),
        _LEAVES_RUN, _resumed("components"), needs=("components", "components-b"), twin=("components-b", "")),
    "base at resume": Artefact(
        20, lambda g: {"run": g.reference("components"), "base": g.base}, ("base/*.*",), _LEAVES_RUN,
        _resumed("components", model=lambda f: f / "base"), needs=("components",),
        also=("model", "tokenizer", "training rows")),
    "rows at resume": Artefact(
        25, lambda g: {"run": g.reference("own-rows"), **{place.name: place for place in (g.rows, g.pairs, g.kept)}},
        ("rows.jsonl", "pairs.jsonl", "kept.jsonl"), _LEAVES_RUN,
        _resumed("own-rows", dataset=lambda f: f / "rows.jsonl", contrast=lambda f: f / "pairs.jsonl",
                 retained=lambda f: f / "kept.jsonl"),
        needs=("own-rows",), also=("training rows", "contrast pair", "retained", "scored"), changes="lines"),
    "records of track": Artefact(
        30, _given(study=_of("track")),
        ("study/runs/*/result.json", "study/runs/*/run/recording/*.*", "study/runs/*/run/recording/*/*",
         "study/*.json"),
        ("study/analysis/*",), _again("track"), needs=("track",)),
    "records of compare": Artefact(
        25, _given(study=_of("compare")), ("study/runs/*/result.json",), ("study/results.json", "study/*.parquet"),
        _again("compare"), needs=("compare",)),
    "results of compare": Artefact(
        20, _given(study=_of("compare")), ("study/results.json", "study/runs/*/result.json"), ("out/report.html",),
        lambda g, f: ["report", str(f / "study"), "--out", str(f / "out")], needs=("compare",)),
    "records of evidence": Artefact(
        20, _given(study=_of("evidence")), ("study/runs/*/result.json",), ("study/results.json",), _again("evidence"),
        needs=("evidence",)),
    "records of bench": Artefact(
        20, _given(study=_of("bench")), ("study/runs/*/result.json",), ("study/leaderboard.json",), _again("bench"),
        needs=("bench",)),
    "corpus": Artefact(
        15, lambda g: {"corpus.safetensors": g.corpus}, ("corpus.safetensors",), ("out/leaderboard.json",),
        lambda g, f: bench_words(g, f / "out", f / "corpus.safetensors")),
    "state of a forecaster": Artefact(
        15, lambda g: {"state.safetensors": g.base.parent / "state.safetensors"}, ("state.safetensors",),
        ("forecast.json",), act=load_forecaster, also=("forecaster state",)),
    "maps": Artefact(
        20, _given(maps=_of("maps")), ("maps/*",), _BEGUN,
        _begun(policy="foresight", granularity="weights", budget=0.05, policy_params__maps=lambda f: f / "maps"),
        needs=("maps",), chosen=True),
    "recipe": Artefact(
        20, lambda g: {}, ("recipe.yaml",), None,
        lambda g, f: ["train", "--config", str(f / "recipe.yaml"), "--output_dir", str(f / "out")], changes="recipe"),
}  # fmt: skip
"""By name. Together they make 500 and more cases."""
