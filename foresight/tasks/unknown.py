"""Rows whose words the tokenizer does not know: a model would see one and the same token for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..common.errors import DataError

MOST = 0.05
"""Share of unknown tokens from which on rows are refused: the loss still falls, and nothing of use is learned."""
_LOOKED_AT = 1_000


def sampled(rows: Any, most: int) -> Iterator[dict[str, Any]]:
    """At most so many rows of a table, evenly spaced, the first and the last among them."""
    for at in np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int).tolist():
        yield rows[at]


def refuse_unknown(rows: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise DataError where more than `MOST` of the tokens of rows are unknown.

    Args:
        rows: tokenized, with a column input_ids; a sample of them is looked at, and nothing of a stream.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        return  # GPT-2's, for instance, which splits any text into bytes
    if not hasattr(rows, "__len__") or "input_ids" not in rows.column_names:
        return
    counts = np.zeros(2)
    for row in sampled(rows, _LOOKED_AT):
        ids = np.asarray(row["input_ids"])
        counts += (ids == unknown).sum(), len(ids)
    share = counts[0] / max(1, counts[1])
    if share > MOST:
        raise DataError(
            f"{share:.0%} of the tokens in the training rows are unknown to the tokenizer, which reads each as "
            f"{tokenizer.unk_token}; at most {MOST:.0%} may be. Use a model whose tokenizer knows this text"
        )
