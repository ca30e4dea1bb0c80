"""Runs come back from files as they were written, and nothing else is read."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from foresight.common.errors import TrajectoryError
from foresight.studies.bench.corpus import SHIPPED, read_corpus, read_runs, write_corpus
from foresight.studies.track.recording import Head, Metrics, Recording
from support.planted_corpus import runs
from support.simulated import components


def same(a, b):
    return (a.setting, a.seed, a.hash) == (b.setting, b.seed, b.hash)


def test_a_corpus_comes_back_as_it_was(tmp_path):
    corpus = [*runs("walk", tasks=2, models=2), *runs("relay", tasks=1, rng_seed=1)]
    first = corpus[0].series
    corpus[0] = replace(corpus[0], series=replace(first, stderr=0.1 * first.values))
    write_corpus(corpus, tmp_path / "c.safetensors")
    found = read_corpus(tmp_path / "c.safetensors")
    assert len(found) == len(corpus) and all(same(a, b) for a, b in zip(found, corpus, strict=True))
    names = load_file(tmp_path / "c.safetensors")
    assert len([name for name in names if name.startswith("table.")]) == 5  # one table, kept once


def test_a_tracked_study_is_read_run_by_run(tmp_path):
    rng = np.random.default_rng(0)
    for seed in (1, 2):
        info = {"task": "ioi", "seed": seed, "learning_rate": 0.01, "model": "/some/where/small"}
        head = Head("t", "abcdef0123", components(), {"other": "x", "ioi": "y"}, ("attribution",), 6, {}, info)
        recording = Recording.create(tmp_path / "runs" / f"ioi-{seed}" / "run" / "recording", head)
        for step in (0, 5, 10):
            recording.append(
                step, {key: rng.normal(size=(4, 60)) for key in ("other/attribution", "ioi/attribution")}, Metrics()
            )
    found = read_runs([tmp_path])
    assert [(r.model, r.task, r.seed, r.learning_rate) for r in found] == [
        ("small-abcdef", "ioi", 1, 0.01), ("small-abcdef", "ioi", 2, 0.01)
    ]  # fmt: skip
    assert np.allclose(found[1].series.values, recording.magnitudes("ioi", "attribution").T)
    with pytest.raises(TrajectoryError, match="twice"):
        read_runs([tmp_path, tmp_path])


@pytest.mark.parametrize("damage", ["pickle", "cut", "version", "missing", "shape", "negative", "no header"])
def test_anything_else_is_refused(tmp_path, damage):
    file = tmp_path / "c.safetensors"
    corpus = runs("walk", tasks=2, seeds=1)
    write_corpus(corpus, file)
    arrays, heads = (
        load_file(file),
        [{"model": "m", "task": "t", "scorer": "s", "learning_rate": 0, "seed": 0, "table": 0}],
    )
    header = {"corpus": json.dumps({"version": 99 if damage == "version" else 1, "runs": heads})}
    if damage == "pickle":
        file.write_bytes(pickle.dumps({"runs": []}))
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        if damage == "missing":
            arrays.pop("0.values")
        elif damage == "shape":
            arrays["0.values"] = arrays["0.values"][:-1].copy()
        elif damage == "negative":
            arrays["0.values"] = -arrays["0.values"]
        save_file(arrays, file, None if damage == "no header" else header)
    with pytest.raises(TrajectoryError, match="c.safetensors"):
        read_runs([file])


def test_a_place_without_runs_is_named(tmp_path):
    with pytest.raises(TrajectoryError, match="holds no recorded run"):
        read_runs([tmp_path])


def test_the_shipped_corpus_is_what_its_recipe_says():
    corpus = read_runs([SHIPPED])
    settings = {run.setting for run in corpus}
    assert len(settings) == 8 * 2 * 2 and len(corpus) == 3 * len(settings)
    assert {run.scorer for run in corpus} == {"attribution"}
    assert {tuple(run.series.steps) for run in corpus} == {tuple(range(0, 121, 5))}
