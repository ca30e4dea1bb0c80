"""Every recipe in recipes/, at any depth, is one that its command accepts."""

import json
from pathlib import Path

import pytest

from foresight.commands.settings import parse
from foresight.commands.train import CLASSES
from foresight.comparison.demo import DemoConfig
from foresight.embedded.pretrain import read_config

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml"))
ZERO = sorted((ROOT / "recipes" / "deepspeed").glob("*.json"))


def _parse(recipe):
    folder, name = recipe.split("/")[1], recipe.split("/")[-1]
    if folder == "train":
        return parse(ROOT / recipe, ["--use_cpu"], CLASSES)
    return {"demo.yaml": lambda path: parse(path, [], (DemoConfig,)), "pretrain.yaml": read_config}[name](ROOT / recipe)


def test_there_are_recipes():
    assert {"recipes/train/sst2.yaml", "recipes/train/jsonl.yaml", "recipes/train/ioi.yaml"} <= set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_parses(recipe):
    assert _parse(recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_listed_in_the_readme(recipe):
    assert f"`{recipe}`" in (ROOT / "README.md").read_text()


def test_demo_recipe_is_the_default():
    assert _parse("recipes/demo.yaml") == (DemoConfig(),)


@pytest.mark.parametrize("path", ZERO, ids=lambda path: path.stem)
def test_deepspeed_config_leaves_the_optimizer_alone(path):
    config = json.loads(path.read_text())
    assert config["zero_optimization"]["stage"] in (1, 2, 3)
    assert not {"optimizer", "scheduler"} & config.keys()


def test_nothing_else_lies_among_the_recipes():
    files = {p for p in (ROOT / "recipes").rglob("*") if p.is_file()}
    assert files == {ROOT / r for r in RECIPES} | set(ZERO) | {ROOT / "recipes" / "deepspeed" / "README.md"}
    assert len(ZERO) == 4
