"""Evaluation: exact under padding, honest about hooks and modes, right on a model whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset

from foresight.common.errors import DataError
from foresight.tasks import task
from foresight.tasks.evaluation import HeldOut
from support.tiny import tiny


@pytest.fixture(scope="module")
def model(word_tokenizer):
    return tiny("llama", vocab_size=len(word_tokenizer))


@pytest.fixture(scope="module")
def mixed(word_tokenizer):
    """Rows of very different lengths."""
    rows = [
        row for name in ("reverse", "docstring", "arithmetic") for row in task(name).dataset(word_tokenizer, "test", 7)
    ]
    return Dataset.from_list(rows)


def test_padded_batches_equal_single_rows(model, mixed, word_tokenizer, monkeypatch):
    batched = HeldOut(word_tokenizer, mixed).measure(model)
    monkeypatch.setattr("foresight.tasks.evaluation.BATCH", 1)
    singles = HeldOut(word_tokenizer, mixed).measure(model)
    assert batched["accuracy"] == singles["accuracy"]
    assert batched["loss"] == pytest.approx(singles["loss"], abs=1e-5)


def test_loss_and_accuracy_by_hand(model, mixed, word_tokenizer):
    """Recomputed row by row with no shared code but the tokenizer."""
    losses, hits = [], []
    for row in mixed:
        start = len(word_tokenizer(row["prompt"])["input_ids"])
        ids = torch.tensor([word_tokenizer(row["prompt"] + row["completion"])["input_ids"]])
        log_probabilities = model(ids).logits.log_softmax(-1)[0, start - 1 : -1]
        losses += (-log_probabilities[torch.arange(ids.shape[1] - start), ids[0, start:]]).tolist()
        hits.append(bool((log_probabilities.argmax(-1) == ids[0, start:]).all()))
    result = HeldOut(word_tokenizer, mixed).measure(model)
    assert result["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert result["accuracy"] == sum(hits) / len(hits)


class Fixed(torch.nn.Module):
    """A "model" that always predicts one token, with logit 10 against 0."""

    def __init__(self, size: int, token: int):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.size, self.token = size, token

    def forward(self, input_ids, attention_mask):
        logits = torch.zeros(*input_ids.shape, self.size)
        logits[..., self.token] = 10.0
        return type("Output", (), {"logits": logits})


def test_metric_and_loss_of_a_model_with_known_answers(word_tokenizer):
    rows = Dataset.from_dict(
        {
            "prompt": [f"The war lasted from the year 17{y} to the year 17" for y in ("20", "49", "50", "80")],
            "completion": ["60", "60", "60", "90"],
        }
    )
    always_50 = Fixed(len(word_tokenizer), word_tokenizer.convert_tokens_to_ids("50"))
    result = HeldOut(word_tokenizer, rows, correct=task("greater_than").correct).measure(always_50)
    assert result["accuracy"] == 0.5  # 50 is later than 20 and 49, not than 50 and 80
    assert HeldOut(word_tokenizer, rows).measure(always_50)["accuracy"] == 0.0  # and never the exact answer
    assert result["loss"] == pytest.approx(math.log(math.exp(10) + len(word_tokenizer) - 1), rel=1e-5)


def test_all_tokens_of_a_completion_must_be_right(word_tokenizer):
    rows = Dataset.from_dict(
        {"prompt": ["Reverse: gold lake iron =>"] * 2, "completion": [" iron iron iron", " iron lake gold"]}
    )
    always_iron = Fixed(len(word_tokenizer), word_tokenizer.convert_tokens_to_ids("iron"))
    assert HeldOut(word_tokenizer, rows).measure(always_iron)["accuracy"] == 0.5


def test_the_mode_is_restored_and_hooks_fire(model, mixed, word_tokenizer):
    calls = []
    handle = model.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(model.training))
    for training in (True, False):
        model.train(training)
        HeldOut(word_tokenizer, mixed).measure(model)
        assert model.training is training
    handle.remove()
    assert calls and not any(calls)
    assert all(p.grad is None for p in model.parameters())


def test_the_mode_is_restored_after_an_error(model, mixed, word_tokenizer):
    def fail(*_):
        raise RuntimeError("hook")

    handle = model.model.layers[0].register_forward_pre_hook(fail)
    model.train()
    with pytest.raises(RuntimeError, match="hook"):
        HeldOut(word_tokenizer, mixed).measure(model)
    handle.remove()
    assert model.training
    model.eval()


def test_bad_inputs(model, mixed, word_tokenizer):
    with pytest.raises(DataError, match="no column 'completion' .*did you mean 'completions'"):
        HeldOut(word_tokenizer, mixed.rename_column("completion", "completions")).measure(model)
    with pytest.raises(DataError, match="empty"):
        HeldOut(word_tokenizer, mixed.select([])).measure(model)
    with pytest.raises(DataError, match="row 0 has no completion tokens"):
        HeldOut(word_tokenizer, Dataset.from_dict({"prompt": ["gold"], "completion": [" "]})).measure(model)
    with pytest.raises(DataError, match="row 0 has no prompt tokens"):
        HeldOut(word_tokenizer, Dataset.from_dict({"prompt": [""], "completion": ["gold"]})).measure(model)
