"""The two tokenizers that every task must work with: the shipped word-level one and a real subword one."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from eval.word_tokenizer import task_tokenizer
from foresight.tasks import TASKS, task


@pytest.fixture(scope="session")
def word_tokenizer():
    return task_tokenizer(task(name) for name in TASKS)


@pytest.fixture(scope="session", params=["words", "pythia"])
def tokenizer(request, word_tokenizer, real_data):
    if request.param == "words":
        return word_tokenizer
    return AutoTokenizer.from_pretrained(real_data("pythia-tokenizer"))
