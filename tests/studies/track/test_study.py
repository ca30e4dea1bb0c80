"""Studies: which cells there are, none run twice, whatever interrupts them, and what ends up in the folder."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest

from eval.word_tokenizer import make_tokenizer
from foresight.commands.track import load
from foresight.common.errors import (
    ConfigError,
    DataError,
    ForesightError,
    NonFiniteError,
    TrajectoryError,
    UnknownNameError,
)
from foresight.model.model_config import ModelConfig
from foresight.studies.runner import RUNS
from foresight.studies.track import cells
from foresight.studies.track import study as studies
from foresight.studies.track.analysis import NAMES, analyse, read_table, tabulate
from foresight.studies.track.cells import OWN, Cell, Setting, recording_of
from foresight.studies.track.settings import TrackConfig
from foresight.studies.track.study import STUDY, Study, run_study
from foresight.tasks.data_config import DataConfig
from foresight.training.config import ForesightConfig

SETTINGS = {"track": {"seeds": 2, "top_edges": 7}, "training": {"budget": 0.1}}


def setting(tmp_path, data=None, training=None, **track):
    args = ForesightConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        **{**dict(max_steps=4, per_device_train_batch_size=4, learning_rate=3e-3, budget=0.1, probe_every=2,
                  probe_examples=8, save_strategy="no", logging_strategy="no", seed=1), **(training or {})},
    )  # fmt: skip
    sizes = dict(task_examples=16, task_eval_examples=8, task_contrast_examples=8)
    data = DataConfig(**{**sizes, **(data or {})})
    return Setting(TrackConfig(**track), data, args, partial(load, ModelConfig(), 0))


@pytest.fixture
def counted(monkeypatch):
    """Names of the cells that are really run."""
    ran, real = [], cells._train

    def train(cell, folder, setting):
        ran.append(cell.label)
        return real(cell, folder, setting)

    monkeypatch.setattr(cells, "_train", train)
    return ran


# -- what there is to run ---------------------------------------------------------------------------------------------


def test_cells_are_tasks_by_strategies_by_seeds(tmp_path):
    found = setting(tmp_path, tasks=["ioi", "gender"], strategies=["free", "mech"], seeds=2).cells()
    assert found == [Cell(t, s, seed) for seed in (1, 2) for s in ("free", "mech") for t in ("ioi", "gender")]
    assert setting(tmp_path, data={"task": "ioi"}).cells() == [Cell("ioi", "free", 1)]
    assert setting(tmp_path, data={"dataset": "x.jsonl"}).cells() == [Cell(OWN, "free", 1)]


@pytest.mark.parametrize("data", [{}, {"task": "ioi"}, {"dataset": "x.jsonl"}])
def test_refuses_no_task_or_two_sources_of_them(tmp_path, data):
    tasks = ["gender"] if data else None
    with pytest.raises(ConfigError, match="expected either tasks, or a task or dataset"):
        setting(tmp_path, data=data, tasks=tasks).cells()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(tasks=["iio"]), UnknownNameError, "entry of tasks 'iio'.*did you mean 'ioi'"),
        (dict(also=["gendre"]), UnknownNameError, "entry of also 'gendre'.*did you mean 'gender'"),
        (dict(strategies=["fre"]), UnknownNameError, "did you mean 'free'"),
        (dict(scorers=["exakt"]), UnknownNameError, "did you mean 'exact'"),
        (dict(tasks=[]), ConfigError, "tasks is empty"),
        (dict(tasks=["ioi", "ioi"]), ConfigError, "expected no entry twice"),
        (dict(seeds=0), ConfigError, "seeds is 0; expected at least 1"),
        (dict(edges_every=-1), ConfigError, "edges_every is -1"),
        (dict(strategy_learning_rates={"mech": 0}), ConfigError, "mech is 0; expected a number above 0"),
        (dict(strategy_learning_rates={"mhec": 1.0}), UnknownNameError, "did you mean 'mech'"),
        (dict(sources={"ioi": "x"}), UnknownNameError, "task of sources 'ioi'"),
        (dict(sources=["x"]), ConfigError, "sources is .*expected a mapping"),
        (dict(strategy_learning_rates="{"), ConfigError, "is not JSON"),
        (dict(strategy_learning_rates="[1]"), ConfigError, "expected a mapping"),
    ],
)
def test_names_a_setting_that_cannot_be(settings, error, message):
    with pytest.raises(error, match=message):
        TrackConfig(**settings)


# -- a study -----------------------------------------------------------------------------------------------------------


def test_strategies_differ_by_mask_and_seeds_by_order_alone(tmp_path):
    chosen = setting(tmp_path, tasks=["gender"], strategies=["free", "mech", "random"],
                     strategy_learning_rates={"mech": 0.5})  # fmt: skip
    free, mech, random = (cells._arguments(cell, tmp_path, chosen) for cell in chosen.cells())
    assert (free.policy, mech.policy, random.policy) == ("full", "static", "random")
    assert (free.learning_rate, mech.learning_rate, random.learning_rate) == (3e-3, 0.5, 3e-3)
    other = cells._arguments(Cell("gender", "free", 2), tmp_path, chosen)
    differing = {k for k, v in free.to_dict().items() if other.to_dict()[k] != v}
    assert differing <= {"seed", "data_seed", "mask_seed", "run_name", "output_dir"} and other.seed == 2
    tokenizer = chosen.load()[1]
    assert chosen.tables("gender", tokenizer)[0].to_list() == chosen.tables("gender", tokenizer)[0].to_list()
    assert chosen.training.policy == "foresight"  # the study's own settings stay as they are


def test_a_study_is_continued_and_no_run_is_done_twice(tmp_path, counted, monkeypatch):
    chosen = setting(tmp_path, tasks=["gender", "boolean"], keep_models=False)
    real = cells._train

    def breaks(cell, folder, setting):
        if len(counted) == 1:
            raise KeyboardInterrupt
        return real(cell, folder, setting)

    monkeypatch.setattr(cells, "_train", breaks)
    with pytest.raises(KeyboardInterrupt):
        run_study(tmp_path / "out", chosen, SETTINGS)
    assert counted == ["gender-free-1"]
    monkeypatch.setattr(cells, "_train", real)
    found = run_study(tmp_path / "out", chosen, SETTINGS, resume=True)
    assert counted == [cell.label for cell in chosen.cells()] and len(found.results) == 2
    again = run_study(tmp_path / "out", chosen, {**SETTINGS, "track": {"seeds": 3, "top_edges": 7}}, resume=True)
    assert again == found and len(counted) == 2

    for result in found.results:
        recording = recording_of(found.path(result.cell))
        assert recording.steps == [0, 2, 4] and result.measures.steps == 4 and result.error is None
        assert 0 < result.measures.tracking_share < 1 and result.measures.metrics.keys() == {result.cell.task}
        assert not (found.path(result.cell) / "run" / "delta").exists()
    answers = analyse(found)
    assert {row["strategy"] for row in answers["moves"]} == {"free"} and not answers["failures"]
    tables = tabulate(found)
    assert tuple(tables) == NAMES and all(len(read_table(found.folder, n)) == len(rows) for n, rows in tables.items())
    signs = read_table(found.folder, "signs")
    assert [(row["task_a"], row["task_b"], row["seed"]) for row in signs] == [("gender", "boolean", None)]


def test_refuses_a_folder_that_holds_another_study(tmp_path, monkeypatch):
    chosen = setting(tmp_path, tasks=["gender"], conflict=False)

    def records(cell, folder, setting):
        head = folder / "run" / "recording" / "recording.json"
        head.parent.mkdir(parents=True, exist_ok=True)
        head.touch()
        raise NonFiniteError("the loss is nan")

    def records_nothing(cell, folder, setting):
        raise NonFiniteError("the loss is nan")

    monkeypatch.setattr(studies, "run_cell", records_nothing)
    run_study(tmp_path, chosen, {"track": {"top_edges": 6}})
    monkeypatch.setattr(studies, "run_cell", records)
    run_study(tmp_path, chosen, SETTINGS)  # nothing had been recorded, so the folder was free
    with pytest.raises(ConfigError, match="already holds a study; continue it with --resume"):
        run_study(tmp_path, chosen, SETTINGS)
    with pytest.raises(ConfigError, match="top_edges 7, now it is 8"):
        run_study(tmp_path, chosen, {"track": {"top_edges": 8}}, resume=True)
    (tmp_path / STUDY).write_text("{")
    with pytest.raises(ConfigError, match="study.json cannot be read"):
        run_study(tmp_path, chosen, SETTINGS, resume=True)


def test_a_cell_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    chosen = setting(tmp_path, data={"task": "gender"}, training=dict(save_strategy="steps", save_steps=1))
    (cell,), folder = chosen.cells(), tmp_path / "cell"

    class Cut(cells.Tracker):
        def on_step_end(self, args, state, control, **kwargs):
            super().on_step_end(args, state, control, **kwargs)
            if state.global_step == 3:
                raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(cells, "Tracker", Cut)
        with pytest.raises(RuntimeError):
            cells.run_cell(cell, folder, chosen)
    assert (folder / "run" / "checkpoint-2").exists()
    before = (folder / "run" / "recording" / "samples" / "00000000.safetensors").stat().st_mtime_ns
    assert cells.run_cell(cell, folder, chosen).steps == 4 and recording_of(folder).steps == [0, 2, 4]
    assert (folder / "run" / "recording" / "samples" / "00000000.safetensors").stat().st_mtime_ns == before
    assert not list((folder / "run").glob("checkpoint-*")) and (folder / "run" / "delta").exists()


def test_divergence_is_a_result_and_other_errors_are_raised(tmp_path, monkeypatch):
    chosen = setting(tmp_path, tasks=["gender", "boolean"], conflict=False)

    def diverge(cell, folder, setting):
        raise NonFiniteError(f"the loss of {cell.task} is nan")

    monkeypatch.setattr(cells, "_train", diverge)
    found = run_study(tmp_path / "out", chosen, SETTINGS)
    errors = [result.error for result in found.results]
    assert errors == [f"NonFiniteError: the loss of {task} is nan" for task in ("gender", "boolean")]
    assert len(analyse(found)["failures"]) == 2
    monkeypatch.undo()
    with pytest.raises(DataError, match="no file or folder"):
        cells.run_cell(Cell(OWN, "free", 1), tmp_path / "c", setting(tmp_path, data={"dataset": "./none.jsonl"}))


def test_follows_other_tasks_and_their_conflict_in_every_run(tmp_path):
    chosen = setting(tmp_path, data={"task": "gender"}, also=["gender", "boolean"], training=dict(max_steps=2))
    found = run_study(tmp_path / "out", chosen, SETTINGS)
    assert recording_of(found.path(chosen.cells()[0])).head.tasks == ("gender", "boolean")
    tables = tabulate(found)
    assert {row["circuit_of"] for row in tables["distance"]} == {"gender", "boolean"}
    assert [(r["task"], r["task_a"], r["task_b"]) for r in tables["signs"]] == [("gender", "gender", "boolean")]
    assert {row["measured_task"] for row in tables["metrics"]} == {"gender", "boolean"}


def test_own_data_without_pairs_is_scored_on_its_text(tmp_path):
    rows = [{"text": f"the {word} is near"} for word in "chair book house tree stone lake road hill".split() * 2]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"dataset": str(tmp_path / "own.jsonl")}
    chosen = setting(tmp_path, data=data, training=dict(max_steps=2))
    found = run_study(tmp_path / "out", chosen, SETTINGS)
    recording = recording_of(found.path(chosen.cells()[0]))
    assert recording.head.scorers == ("gradient_activation",) and recording.head.tasks == (OWN,)
    assert analyse(found)["outcome"] == [] and read_table(found.folder, "staleness")
    with pytest.raises(ForesightError, match="edges are scored on contrast pairs and there are none"):
        run_study(tmp_path / "edges", replace(chosen, track=TrackConfig(edges_every=1)), SETTINGS)


def test_data_tasks_read_the_place_that_is_named(tmp_path):
    words = "good bad fine poor nice sad glad dull".split()
    rows = [{"sentence": f"the {a} thing is {b}", "label": i % 2} for i, a in enumerate(words) for b in words]
    (tmp_path / "sst2.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = setting(tmp_path, tasks=["sst2", "ioi"], sources={"sst2": str(tmp_path / "sst2.jsonl")})
    tokenizer = make_tokenizer([*words, *"the thing is negative positive Review: Sentiment:".split()])
    train, evaluation, pairs = chosen.tables("sst2", tokenizer)
    assert "the" in train[0]["prompt"] and len(evaluation) == 8 and len(pairs) == 8


def test_errors_of_workers_come_back_and_a_damaged_result_is_named(tmp_path):
    chosen = setting(tmp_path, data={"dataset": "./none.jsonl"}, workers=2)
    with pytest.raises(ForesightError, match="dataset-free-1: no file or folder './none.jsonl'"):
        run_study(tmp_path / "out", chosen, SETTINGS)
    path = tmp_path / "out" / RUNS / "dataset-free-1"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    (path / "result.json").write_text("{}")
    with pytest.raises(DataError, match="result.json is not a result"):
        run_study(tmp_path / "out", chosen, SETTINGS, resume=True)


def test_an_empty_study_cannot_be_analysed(tmp_path):
    with pytest.raises(TrajectoryError, match="holds no finished run"):
        analyse(Study(tmp_path, ()))
    with pytest.raises(TrajectoryError, match="distance.parquet cannot be read"):
        read_table(tmp_path, "distance")
