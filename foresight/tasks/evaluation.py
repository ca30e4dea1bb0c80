"""Accuracy and loss of a causal language model on prompts with completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os.path import commonprefix
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..common.errors import DataError
from .columns import require_columns

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that no loss counts."""
BATCH = 64

Correct = Callable[[str, str, str], bool]
"""Decides from (prompt, completion, predicted text) whether a prediction is right."""


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> tuple[list[int], int]:
    """Return the token ids of prompt + completion and the position at which the completion starts.

    The completion starts where the ids diverge from those of the prompt alone. Special tokens are added as the
    tokenizer does by default, except for a final end-of-sequence token.
    """
    alone, both = tokenizer(prompt)["input_ids"], tokenizer(prompt + completion)["input_ids"]
    eos = tokenizer.eos_token_id
    while both and both[-1] == eos:
        both = both[:-1]
    return both, len(commonprefix([alone, both]))


class HeldOut:
    """Prompts with completions, encoded once, on which a model can be measured repeatedly.

    Args:
        dataset: columns prompt and completion.
        correct: decides whether a prediction is right; None requires every token of the completion to match.

    Raises:
        DataError: missing columns, an empty table, or a prompt or completion without tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, *, correct: Correct | None = None):
        require_columns(dataset.column_names, ("prompt", "completion"), "dataset to evaluate on")
        if len(dataset) == 0:
            raise DataError("nothing to evaluate: the dataset is empty")
        self.tokenizer, self.correct = tokenizer, correct
        rows = [(p, c, *encode(tokenizer, p, c)) for p, c in zip(dataset["prompt"], dataset["completion"], strict=True)]
        for i, (prompt, completion, tokens, start) in enumerate(rows):
            if start == 0 or start == len(tokens):
                part = "prompt" if start == 0 else "completion"
                raise DataError(f"row {i} has no {part} tokens: {prompt!r} + {completion!r}")
        self.rows = sorted(rows, key=lambda row: len(row[2]))  # less padding

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Measure teacher-forced accuracy and loss on the completions.

        The prediction for a row is the argmax token at every completion position, given the true tokens before it.
        Rows are right-padded and masked, so a row's result does not depend on its batch. The model's train or eval
        mode is restored; its forward is called as usual, hooks included.

        Returns:
            accuracy in [0, 1], and loss, the mean cross-entropy in nats per completion token. Neither includes the
            end-of-sequence token.
        """
        device = next(model.parameters()).device
        training, hits, loss, count = model.training, 0, 0.0, 0
        model.eval()
        try:
            with torch.no_grad():
                for at in range(0, len(self.rows), BATCH):
                    batch = self.rows[at : at + BATCH]
                    inputs, labels, mask = collate([(tokens, start) for _, _, tokens, start in batch])
                    logits = model(input_ids=inputs.to(device), attention_mask=mask.to(device)).logits[:, :-1]
                    labels = labels[:, 1:].to(device)
                    wanted = labels >= 0
                    loss += nn.functional.cross_entropy(logits[wanted].float(), labels[wanted], reduction="sum").item()
                    count += int(wanted.sum())
                    best = logits.argmax(-1)
                    for (prompt, completion, _, _), row, where, truth in zip(batch, best, wanted, labels, strict=True):
                        if self.correct is None:
                            hits += bool((row[where] == truth[where]).all())
                        else:
                            text = self.tokenizer.decode(row[where].tolist()).strip()
                            hits += self.correct(prompt, completion, text)
        finally:
            model.train(training)
        return {"accuracy": hits / len(self.rows), "loss": loss / count}


def collate(rows: list[tuple[list[int], int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded input ids, labels (-100 outside the completion) and attention mask, int64 [batch, length] each."""
    labels = padded([[IGNORED] * start + tokens[start:] for tokens, start in rows], IGNORED)
    return padded([tokens for tokens, _ in rows]), labels, padded([[1] * len(tokens) for tokens, _ in rows])


def padded(rows: Sequence[Sequence[int]], value: int = 0, side: Literal["left", "right"] = "right") -> Tensor:
    """Rows of unequal length as one tensor, filled up with `value`: int64 [rows, longest]."""
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)
