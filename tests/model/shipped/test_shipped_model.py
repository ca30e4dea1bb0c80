"""The shipped model is small, loads offline, and is as good and as weak as its card says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.shipped_model import read_config
from foresight.model.shipped import card, model_path
from foresight.tasks import NOVEL_TASKS, TASKS, task
from foresight.tasks.evaluation import HeldOut

RECIPE = Path(__file__).parents[3] / "recipes" / "pretrain.yaml"

RETAINED, TARGET, OTHER = card()["retained"], card()["target"], list(card()["recipe"]["other"])


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(model_path()).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path())


def test_it_is_a_small_llama_in_safetensors(model):
    assert model.config.model_type == "llama" and model.config.tie_word_embeddings
    assert model.config.num_key_value_heads == model.config.num_attention_heads
    assert sum(p.numel() for p in model.parameters()) == card()["parameters"] <= 1_000_000
    assert (model_path() / "model.safetensors").stat().st_size <= 4_000_000  # bytes
    assert not list(model_path().glob("*.bin")) and not list(model_path().glob("*.pt"))


def test_every_task_is_in_one_group():
    assert sorted([*RETAINED, *TARGET, *OTHER]) == sorted(set(TASKS) - set(NOVEL_TASKS))
    assert len(RETAINED) >= 3 and len(TARGET) >= 3


def test_the_card_is_of_the_recipe_in_this_repository():
    assert card()["recipe"] == asdict(read_config(RECIPE))


@pytest.mark.parametrize("name", [*RETAINED, *TARGET, *OTHER])
def test_accuracy(name, model, tokenizer):
    chosen = task(name)
    n = 200
    result = HeldOut(tokenizer, chosen.dataset(tokenizer, "test", n), correct=chosen.correct).measure(model)
    recorded = card()["test"][name]["accuracy"]
    assert result["accuracy"] == pytest.approx(recorded, abs=0.1)
    if name in RETAINED:
        assert result["accuracy"] >= 0.85
    if name in TARGET:
        assert 0.1 <= result["accuracy"] <= 0.7


@pytest.mark.parametrize("name", TASKS)
def test_every_text_of_every_task_is_in_the_vocabulary(name, tokenizer):
    for example in task(name).examples(tokenizer, "test", 100, seed=5):
        assert tokenizer.unk_token_id not in tokenizer(example.prompt + example.completion)["input_ids"]


@pytest.mark.parametrize("name", TASKS)
def test_prompt_is_a_prefix_of_prompt_and_completion_with_an_end(name, tokenizer):
    """What SFTTrainer needs: it tokenizes both and masks the prompt, after appending the end-of-sequence text."""
    for example in task(name).examples(tokenizer, "test", 50):
        prompt = tokenizer(example.prompt)["input_ids"]
        whole = tokenizer(example.prompt + example.completion + tokenizer.eos_token)["input_ids"]
        assert whole[: len(prompt)] == prompt and whole[-1] == tokenizer.eos_token_id
        words = tokenizer.decode(whole[len(prompt) : -1]).split()
        assert words == example.completion.split()
