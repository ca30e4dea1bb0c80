"""Contrast pairs among the rows of a data set.

A row's corrupted prompt is found in one of two ways, both our own choice:

- swap: the row itself with the parts that decide its label swapped, such as the two options of a question;
- partner: another row of the same group with the same number of tokens and a different answer.

The answer of a row is the first token of its completion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..common.errors import DataError
from .columns import plain_ids
from .examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Raw = Mapping[str, Any]
"""A row of a data set, by column."""


@dataclass(frozen=True)
class Row:
    """One row of a data task.

    Attributes:
        prompt, completion: texts; the completion starts with its own space.
        group: only rows of the same group are contrasted.
        swapped: a corrupted prompt made from the row itself, and its right completion.
    """

    prompt: str
    completion: str
    group: str = ""
    swapped: tuple[str, str] | None = None


def pair(task: str, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, one_token: bool) -> list[Example]:
    """Make an example of every row that can be contrasted under `tokenizer`, in the order of `rows`.

    A row's partner is the next suitable row, cyclically. Rows are left out if they have no partner, if their swapped
    prompt has another number of tokens, or if the first token of their completion has no text of its own (a part of a
    character, or an unknown token).

    Raises:
        DataError: `one_token` is set and a completion is not exactly one known token; the message names `task`.
    """
    read = _read(task, rows, tokenizer, one_token)
    alike = defaultdict(list)
    for i, (row, length, _) in enumerate(read):
        if row.swapped is None:
            alike[row.group, length].append(i)
    answers = [answer for _, _, answer in read]
    partners = {i: j for members in alike.values() for i, j in _partners(members, answers).items()}
    swaps = [row.swapped or ("", "") for row, _, _ in read]
    swapped_ids = plain_ids(tokenizer, [prompt for prompt, _ in swaps])
    found = []
    for i, (row, length, answer) in enumerate(read):
        if i in partners:
            corrupted, wrong = read[partners[i]][0].prompt, answers[partners[i]]
        else:
            corrupted, wrong = swaps[i]
            if corrupted in ("", row.prompt) or len(swapped_ids[i]) != length:
                continue
        found.append(Example(row.prompt, row.completion, corrupted, answer, wrong))
    return found


def _read(
    task: str, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, one_token: bool
) -> list[tuple[Row, int, str]]:
    """Return the rows whose answer is a token, each with its prompt's number of tokens and its answer's text."""
    prompts = plain_ids(tokenizer, [row.prompt for row in rows])
    wholes = plain_ids(tokenizer, [row.prompt + row.completion for row in rows])
    added = [whole[len(p) :] if whole[: len(p)] == p else [] for p, whole in zip(prompts, wholes, strict=True)]
    if one_token:
        for row, ids in zip(rows, added, strict=True):
            if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
                tokens = tokenizer.convert_ids_to_tokens(ids) or tokenizer.tokenize(row.completion)
                raise DataError(
                    f"task {task!r}: the answer {row.completion!r} is {tokens} under this tokenizer, expected one "
                    "known token; give other words with label_map (labels in Python), or use another tokenizer"
                )
    # SentencePiece decodes a token without its space, so the space is added here and the result checked.
    answers = [f" {tokenizer.decode(ids[:1]).strip()}" for ids in added]
    answered = plain_ids(tokenizer, [row.prompt + answer for row, answer in zip(rows, answers, strict=True)])
    return [
        (row, len(prompt), answer)
        for row, prompt, ids, answer, both in zip(rows, prompts, added, answers, answered, strict=True)
        if answer.strip() and ids[0] != tokenizer.unk_token_id and both == [*prompt, ids[0]]
    ]


def _partners(members: Sequence[int], answers: Sequence[str]) -> dict[int, int]:
    """Map every member to the next one, cyclically, with another answer; members without one are left out."""
    found: dict[int, int] = {}
    for here, there in reversed(list(pairwise([*members, *members]))):
        if answers[here] != answers[there]:
            found[here] = there
        elif there in found:
            found[here] = found[there]
    return found
