"""`foresight track`: a small study from recipe to answers, and what is said of bad settings."""

import json
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from foresight.cli import main
from foresight.commands.settings import parse
from foresight.model.model_config import ModelConfig
from foresight.model.shipped import model_path
from foresight.studies.track.recording import Recording
from foresight.studies.track.settings import TrackConfig
from foresight.tasks import DATA_TASKS, NOVEL_TASKS, TASKS
from foresight.tasks.data_config import DataConfig
from foresight.training.config import ForesightConfig
from support.tiny import tiny, tiny_tokenizer

RECIPES = Path(__file__).parents[3] / "recipes" / "track"
STUDY = dict(
    tasks=["gender", "boolean"], seeds=2, strategies=["free", "random"], max_steps=2, probe_every=2, probe_examples=8,
    task_examples=16, task_eval_examples=8, per_device_train_batch_size=4, learning_rate=0.01, budget=0.2,
    edges_every=2, use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", logging_strategy="no",
)  # fmt: skip

CLASSES = (TrackConfig, DataConfig, ModelConfig, ForesightConfig)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny random model over the shipped model's vocabulary."""
    folder = tmp_path_factory.mktemp("model")
    tiny("llama", vocab_size=330).save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(tmp_path, model):
    def write(**changes):
        path = tmp_path / "recipe.yaml"
        chosen = {**STUDY, "model": str(model), "tokenizer": str(model_path()), **changes}
        path.write_text(yaml.safe_dump({k: v for k, v in chosen.items() if v is not None}))
        return str(path)

    return write


@pytest.fixture
def refused(refused):
    return partial(refused, "track")


def test_a_task_that_the_tokenizer_cannot_spell_is_refused_before_anything_runs(tmp_path, recipe, refused):
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    words = recipe(tasks=["gender", "parity"], tokenizer=str(tmp_path / "tokenizer"))
    assert "task 'gender'" in (said := refused("--config", words, "--out", str(tmp_path / "out")))
    assert "a task that it can spell: none" in said and not (tmp_path / "out").exists()


def test_a_small_study_from_recipe_to_answers(tmp_path, recipe, refused, capsys):
    out = tmp_path / "out"
    words = ["--config", recipe(), "--out", out]
    assert main(["track", *map(str, words)]) == 0
    said = capsys.readouterr().out
    assert "tasks:\n- gender\n- boolean" in said  # the settings, resolved
    assert "Circuit distance from step 0" in said and "8 runs" in said
    for part in ("circuits move beyond noise? free:", "map of step 0", "random: tracking took", "Final accuracy: free"):
        assert part in said.replace("\n", " "), part

    settings = json.loads((out / "study.json").read_text())
    assert settings["track"]["seeds"] == 2 and settings["training"]["max_steps"] == 2
    for folder in sorted((out / "runs").glob("*/run")):
        recording = Recording.read(folder / "recording")
        assert recording.steps == [0, 2] and recording.edges(0).num_rows > 0 and recording.edges(2) is None
    answers = json.loads((out / "analysis" / "answers.json").read_text())
    assert answers["sentences"] and {row["strategy"] for row in answers["outcome"]} == {"free", "random"}
    distance = pq.read_table(out / "analysis" / "distance.parquet").to_pylist()
    assert {(r["task"], r["strategy"], r["seed"]) for r in distance} == {
        (t, s, seed) for t in ("gender", "boolean") for s in ("free", "random") for seed in (42, 43)
    }
    assert all(r["floor"] <= r["floor_high"] for r in distance if r["value"] == r["value"])
    scores = pq.read_table(out / "analysis" / "scores.parquet").to_pylist()
    snapshots = len(scores) // len({r["component"] for r in scores})
    assert snapshots == 2 * 8 and sum(r["in_circuit"] for r in scores) == snapshots * recording.head.circuit
    boolean = pq.read_table(out / "analysis" / "boolean.parquet").to_pylist()
    assert [(r["dropped"], r["kept"]) for r in boolean] == list(product(("gender", "boolean"), repeat=2))

    before = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*") if p.is_file()}
    assert "already holds a study" in refused(*words)
    assert main(["track", *map(str, words), "--resume"]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*") if p.is_file()}
    assert "learning_rate 0.01, now it is 0.02" in refused(*words, "--resume", "--learning_rate", 0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(task_names=["ioi"]), "unknown setting 'task_names' (did you mean"),
        (dict(tasks=["gendre"]), "entry of tasks 'gendre' (did you mean 'gender'"),
        (dict(tasks="ioi", task="ioi"), "expected either tasks, or a task or dataset"),
        (dict(tasks=None), "expected either tasks, or a task or dataset"),
        (dict(strategies=["frei"]), "did you mean 'free'"),
        (dict(seeds="many"), "seeds"),
        (dict(policy="reactive"), "policy is 'reactive', which track does not take: strategies says"),
        (dict(trust_remote_code=True), "trust_remote_code is True"),
        (dict(probe_every=0), "probe_every is 0; expected at least 1"),
        (dict(scorers=["movement"], calibrate=False), "'movement' gives 1 rows on the probe of 'gender'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings_are_named(tmp_path, recipe, refused, changes, message):
    assert message in refused("--config", recipe(**changes), "--out", tmp_path / "out")


def test_a_recipe_that_is_not_there(refused):
    assert "none.yaml cannot be read" in refused("--config", "none.yaml")


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom foresight.cli import main\n"
        "try:\n    main(['track', '--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'torch', 'transformers', 'trl', 'numpy', 'datasets', 'rich'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "--resume" in done.stdout, done.stderr


def test_settings_are_listed(capsys):
    assert main(["track", "--settings"]) == 0
    said = capsys.readouterr().out
    for cls in CLASSES:
        assert next(iter(cls.__dataclass_fields__)) in said
    assert said.startswith("Track\n=====\ntasks (")


@pytest.mark.parametrize("name", ["study", "paper", "own"])
def test_recipes_are_accepted(name):
    track, data, model, args = parse(RECIPES / f"{name}.yaml", ["--use_cpu", "--bf16=false"], CLASSES)
    if name == "study":
        assert len(track.tasks) >= 6 and track.seeds >= 3 and set(track.tasks) <= set(TASKS) and model.model is None
    elif name == "paper":
        assert set(track.tasks) == {*TASKS, *DATA_TASKS} - set(NOVEL_TASKS)
        assert track.strategies == ["free", "mech", "random"]
    else:
        assert data.dataset and data.contrast and track.tasks is None
    assert args.max_steps > 0 or args.num_train_epochs > 0
