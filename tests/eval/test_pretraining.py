"""The recipe: seeded, checked, and a miniature of it learns."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.shipped_model import PretrainConfig, main, pretrain, read_config
from foresight.common.errors import ConfigError
from foresight.tasks import NOVEL_TASKS, TASKS, task
from foresight.tasks.evaluation import HeldOut

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain.yaml"
SMALL = dict(layers=1, width=32, heads=2, mlp_width=64, batch_size=16, eval_examples=50, warmup_steps=5)


def test_the_shipped_recipe_is_readable_and_names_every_task():
    assert set(read_config(RECIPE).weights) == set(TASKS) - set(NOVEL_TASKS)


def test_two_runs_write_the_same_bytes(tmp_path):
    config = PretrainConfig(retained={"gender": 1.0}, target={"reverse": 0.5}, steps=6, **SMALL)
    cards = [pretrain(config, tmp_path / name) for name in ("a", "b")]
    assert cards[0]["test"] == cards[1]["test"] and cards[0]["parameters"] == cards[1]["parameters"]
    for file in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    other = PretrainConfig(retained={"gender": 1.0}, target={"reverse": 0.5}, steps=6, seed=1, **SMALL)
    pretrain(other, tmp_path / "c")
    first, last = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "c"))
    assert any((first[key] != last[key]).any() for key in first)


def test_it_learns_and_what_it_saves_loads(tmp_path):
    config = PretrainConfig(retained={"greater_than": 1.0}, target={}, steps=60, learning_rate=1e-2, **SMALL)
    card = pretrain(config, tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    chosen = task("greater_than")
    result = HeldOut(tokenizer, chosen.dataset(tokenizer, "test", 50), correct=chosen.correct).measure(model)
    assert result == pytest.approx(card["test"]["greater_than"])
    assert result["loss"] < 4.5  # all years alike would be ln 99 = 4.6


def test_command_line_and_bad_recipes(tmp_path, monkeypatch):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("retained: {gender: 1}\ntarget: {}\nlearningrate: 0.1\n")
    monkeypatch.setattr(sys, "argv", ["pretrain", "--config", str(recipe), "--out", str(tmp_path / "out")])
    with pytest.raises(ConfigError, match="unknown key 'learningrate' .did you mean 'learning_rate'"):
        main()
    with pytest.raises(ConfigError, match="ioi are in two groups"):
        PretrainConfig(retained={"ioi": 1.0}, target={"ioi": 1.0})
    for weights in ({}, {"ioi": 0.0}):
        with pytest.raises(ConfigError, match="mixture"):
            PretrainConfig(retained=weights, target={})
