"""The shipped model's tokenizer: one token per word, run of punctuation or pair of digits."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, Whitespace
from transformers import PreTrainedTokenizerFast

from foresight.tasks.generated_task import GeneratedTask

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
MAX_LENGTH = 128
_PIECES = Sequence([Whitespace(), Split(Regex(r"\d{1,2}"), "isolated")])


def make_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a word-level tokenizer that knows `words`; others become ``<unk>``. It adds no special tokens by itself."""
    ids = {word: i for i, word in enumerate((*SPECIAL, *sorted(set(words) - set(SPECIAL))))}
    core = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = _PIECES
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        padding_side="right", model_max_length=MAX_LENGTH,
    )  # fmt: skip


def task_tokenizer(tasks: Iterable[GeneratedTask], draws: int = 3000) -> PreTrainedTokenizerFast:
    """Make a tokenizer that knows every word of `tasks`: their lists, the numbers below 100, and their templates.

    Tasks only use words that a tokenizer knows. So a first tokenizer, made from lists and numbers, lets each task draw
    `draws` examples, and these contain the words of its templates.
    """
    tasks = list(tasks)
    lists = [word for task in tasks for words in task.word_lists.values() for word in words]
    words = set(_words([f"{n} {n:02d}" for n in range(100)] + lists))
    first = make_tokenizer(words)
    for task in tasks:
        words |= _words([f"{e.prompt} {e.completion}" for e in islice(task.stream(first), draws)])
    return make_tokenizer(words)


def _words(texts: Iterable[str]) -> set[str]:
    return {piece for text in texts for piece, _ in _PIECES.pre_tokenize_str(text)}
