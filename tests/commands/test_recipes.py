"""Every recipe in recipes/, at any depth, is one that its command accepts."""

import json
import re
from pathlib import Path

import pytest

from eval.shipped_model import read_config
from foresight.cli import main
from foresight.commands.recipes import located, shipped
from foresight.commands.settings import parse
from foresight.common.errors import ConfigError
from foresight.model.loading import load_meta_model
from foresight.model.model_config import ModelConfig
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.evidence.settings import EvidenceConfig
from foresight.studies.track.settings import TrackConfig
from foresight.tasks.data_config import DataConfig
from foresight.training.config import ForesightConfig
from foresight.training.memory import memory, ways
from foresight.training.plan import Plan
from support.tiny import published

ROOT = Path(__file__).parents[2]
CLASSES = (DataConfig, ModelConfig, ForesightConfig)
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml"))
ZERO = sorted((ROOT / "recipes" / "deepspeed").glob("*.json"))
PUBLISHED = {
    "recipes/train/llama-3.1-8b.yaml": ("meta-llama/Llama-3.1-8B", 8_030_261_248),
    "recipes/train/mistral-7b.yaml": ("mistralai/Mistral-7B-v0.3", 7_248_023_552),
}


OWN_TASKS = "--target_tasks ioi --tuning_tasks boolean --history_tasks gender --retained_tasks reverse".split()


def _parse(recipe):
    folder = recipe.split("/")[1]
    if folder == "compare":  # whose task files have to be there
        return parse(ROOT / recipe, OWN_TASKS if recipe.endswith("own.yaml") else [], (CompareConfig,))
    if folder in ("train", "track", "forecasters"):
        return parse(ROOT / recipe, ["--use_cpu"], CLASSES if folder == "train" else (TrackConfig, *CLASSES))
    if folder == "evidence":
        return parse(ROOT / recipe, [], (EvidenceConfig,))
    assert folder == "pretrain.yaml"
    return read_config(ROOT / recipe)


def test_recipes_are_found_by_name():
    assert {f"recipes/{name}.yaml" for name in shipped()} == set(RECIPES)
    for name in ("jsonl", "train/jsonl"):
        assert located(name).read_text() == (ROOT / "recipes" / "train" / "jsonl.yaml").read_text()
    assert parse("jsonl", ["--use_cpu"], CLASSES)[2].output_dir == "runs/jsonl"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jsnol", "no recipe 'jsnol' .did you mean 'jsonl'.*train/jsonl"),
        ("own", "several recipes are called 'own': compare/own, track/own"),
        ("train", "no recipe 'train'"),
    ],
)
def test_names_that_are_none(name, message):
    with pytest.raises(ConfigError, match=message):
        located(name)


def test_there_are_recipes():
    assert {"recipes/train/sst2.yaml", "recipes/train/jsonl.yaml", "recipes/train/ioi.yaml"} <= set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_parses(recipe):
    assert _parse(recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_listed_in_the_readme_of_recipes(recipe):
    assert f"]({recipe.removeprefix('recipes/')})" in (ROOT / "recipes" / "README.md").read_text()


def test_demo_recipe_is_the_default():
    assert _parse("recipes/compare/demo.yaml") == (CompareConfig(),)


@pytest.mark.parametrize("path", ZERO, ids=lambda path: path.stem)
def test_deepspeed_config_leaves_the_optimizer_alone(path):
    config = json.loads(path.read_text())
    assert config["zero_optimization"]["stage"] in (1, 2, 3)
    assert not {"optimizer", "scheduler"} & config.keys()


@pytest.mark.parametrize("path", ZERO, ids=lambda path: path.stem)
def test_deepspeed_config_has_the_buckets_that_plan_counts_on(path):
    settings = json.loads(path.read_text())["zero_optimization"]
    assert settings["reduce_bucket_size"] == "auto"
    assert settings["stage"] < 3 or settings["stage3_prefetch_bucket_size"] == "auto"


@pytest.fixture
def published_folder(tmp_path):
    """A folder with the config of a published model, and nothing else."""

    def write(name):
        published(name).save_pretrained(tmp_path)
        return tmp_path

    return write


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_recipe_of_a_published_model_can_be_planned(recipe, published_folder, capsys):
    name, parameters = PUBLISHED[recipe]
    assert _parse(recipe)[1].model == name
    words = ["plan", "--config", ROOT / recipe, "--model", published_folder(name), "--processes", 8, "--rows", 10_000]
    assert main([str(word) for word in words]) == 0
    out = capsys.readouterr().out
    assert f"{parameters:,}" in out and f"{int(0.05 * parameters / 4096):,} vectors" in out
    assert re.search(r"optimizer steps +│ 40 ", out)  # 8 processes x 4 examples x 8 passes a step


def test_memory_table_in_the_docs_is_what_the_recipes_need(published_folder):
    """Cells: GiB on the device, and `+` on the host without the record of changed vectors."""
    text = (ROOT / "recipes" / "deepspeed" / "README.md").read_text()
    section = text.split("\n## Memory\n")[1].split("\n## ")[0]
    table = section.split("\n\n")[1]
    shown = {row[0]: row[1:] for row in (re.split(r" *\| *", line.strip("| ")) for line in table.splitlines()[2:])}
    expected: dict[str, list[str]] = {}
    for recipe, (name, _) in PUBLISHED.items():
        _, settings, args = parse(ROOT / recipe, ["--use_cpu", "--model", str(published_folder(name))], CLASSES)
        sizes = Plan(load_meta_model(settings), args, None).sizes
        for processes in (1, 8):
            for way, sharding in ways(processes, args.bf16).items():
                found = memory(sizes, sharding)
                host = f" + {found.host.peak / 2**30:.1f}" if found.host.peak else ""
                expected.setdefault(way, []).append(f"{found.device.peak / 2**30:.1f}{host}")
    assert shown == expected


def test_measured_memory_in_the_docs_is_the_recorded_one():
    text = (ROOT / "recipes" / "deepspeed" / "README.md").read_text()
    section = text.split("\n## Memory\n")[1].split("\n## ")[0]
    recorded = json.loads((ROOT / "eval" / "results" / "memory" / "results.json").read_text())
    for name, found in recorded["bytes [measured, predicted]"].items():
        pairs = [[size / 1e6 for size in found[key]] for key in ("total of states", "peak")]
        cells = [f"{measured:.1f} / {predicted:.1f}" for measured, predicted in pairs]
        assert f"| {name} | {cells[0]} | {cells[1]} |" in section


def test_nothing_else_lies_among_the_recipes():
    files = {p for p in (ROOT / "recipes").rglob("*") if p.is_file()}
    papers = {ROOT / "recipes" / "README.md", ROOT / "recipes" / "deepspeed" / "README.md"}
    assert files == {ROOT / r for r in RECIPES} | set(ZERO) | papers
    assert len(ZERO) == 4
