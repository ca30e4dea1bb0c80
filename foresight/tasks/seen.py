"""What a model sees of training rows. Rows that say something else than their user thinks are refused: the loss would
still fall, and nothing of use would be learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..common.errors import DataError

MOST = 0.05
"""Share of unknown tokens, and of rows without anything to train on, from which on rows are refused."""
LOOKED_AT = 1_000
"""Rows of a table that are looked at, evenly spaced, where every one would take too long."""


def spaced(count: int, most: int) -> list[int]:
    """At most so many of the numbers from 0 to `count` - 1, evenly spaced, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def sampled(rows: Any, most: int) -> Iterator[dict[str, Any]]:
    """At most so many rows of a table, evenly spaced."""
    for at in spaced(len(rows), most):
        yield rows[at]


def unknown_share(rows: Any, tokenizer: PreTrainedTokenizerBase) -> float:
    """Share of the tokens of rows that the tokenizer does not know, all of which a model would take for the same one.

    Args:
        rows: tokenized, with a column input_ids; a sample of them is looked at, and nothing of a stream.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        return 0.0  # GPT-2's, for instance, which splits any text into bytes
    if not hasattr(rows, "__len__") or "input_ids" not in rows.column_names:
        return 0.0
    ids = np.concatenate([np.zeros(0), *(np.asarray(row["input_ids"]) for row in sampled(rows, LOOKED_AT))])
    return float((ids == unknown).sum() / max(1, len(ids)))


def refuse_unknown(rows: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise DataError where more than `MOST` of the tokens of rows are unknown (`unknown_share`)."""
    if (share := unknown_share(rows, tokenizer)) > MOST:
        raise DataError(
            f"{share:.0%} of the tokens in the training rows are unknown to the tokenizer, which reads each as "
            f"{tokenizer.unk_token}; at most {MOST:.0%} may be. Use a model whose tokenizer knows this text"
        )


def lost(given: int, left: int, max_length: int | None) -> str | None:
    """What to say of rows with nothing to train on, which are left out; None if there are none.

    Args:
        given, left: rows before and after they were prepared.

    Raises:
        DataError: they are more than `MOST` of all.
    """
    if left >= given:
        return None
    cut = f", or whose answer lies beyond max_length ({max_length:,} tokens)" if max_length else ""
    words = f"{given - left:,} of {given:,} training rows are left out: rows without a completion{cut}"
    if left < (1 - MOST) * given:
        raise DataError(f"{words}. At most {MOST:.0%} may be; `foresight preview` shows what is left of the others")
    return words


def refuse_new(rows: Any, known: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise DataError where rows have tokens that were added to a tokenizer of `known` tokens, which a masked run would
    never train: embeddings are frozen."""
    if len(tokenizer) > known and hasattr(rows, "__len__") and "input_ids" in rows.column_names:
        new = {token for row in sampled(rows, LOOKED_AT) for token in row["input_ids"] if token >= known}
        if new:
            words = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(sorted(new)[:5])))
            raise DataError(
                f"the training rows have the tokens {words}, which the chat template has added to the tokenizer. Their "
                "embeddings are new, and a masked run trains none; use a chat template of tokens that the model knows"
            )
