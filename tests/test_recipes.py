"""Every recipe in recipes/, at any depth, is one that its command accepts."""

from pathlib import Path

import pytest
from foresight.comparison.demo import DemoConfig

from foresight.commands.settings import parse
from foresight.commands.train import CLASSES
from foresight.embedded.pretrain import read_config

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*") if path.is_file())


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
