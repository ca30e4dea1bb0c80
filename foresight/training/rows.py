"""Training rows on their way through TRL: what is checked before it prepares them, and what after."""

from __future__ import annotations

import logging
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ..common.errors import ConfigError, DataError
from ..tasks.conversations import refuse_dropped
from ..tasks.seen import lost, refuse_new, refuse_unknown
from ..tasks.trainable import trainable
from .config import ForesightConfig

_log = logging.getLogger(__name__)
_MARK = "{% generation"


def checked(rows: Any, args: ForesightConfig, tokenizer: PreTrainedTokenizerBase | None, formatted: bool) -> Any:
    """Training rows as TRL takes them, after everything was checked that can be told before it tokenizes them.

    Args:
        tokenizer: None if the model brings its own; the chat template is then checked afterwards.
        formatted: a function makes text of rows, so their columns may be any.

    Raises:
        DataError: no table, an empty one, or a row that cannot be used.
        ConfigError: a batch that no step could fill, or a chat template without what `assistant_only_loss` needs.
    """
    if isinstance(rows, IterableDataset):
        if next(iter(rows), None) is None:
            raise DataError("the training dataset is an empty stream; check its path, split and filters")
        return rows
    if not isinstance(rows, Dataset):
        hint = "; Dataset.from_list(rows) makes one" if isinstance(rows, (list, tuple)) else ""
        raise DataError(f"train_dataset is a {type(rows).__name__}; expected a datasets.Dataset{hint}")
    if len(rows) == 0:
        raise DataError("the training dataset is empty; check its path, split and filters")
    batch = args.per_device_train_batch_size * args.world_size
    if args.dataloader_drop_last and len(rows) < batch:
        raise ConfigError(
            f"a batch has {batch} rows, the training dataset {len(rows)}, and dataloader_drop_last leaves out a batch "
            "that is not full; lower per_device_train_batch_size, or turn dataloader_drop_last off"
        )
    if formatted or "input_ids" in rows.column_names or args.dataset_text_field != "text":
        return rows
    rows = trainable(rows, "the training dataset", chat=bool(getattr(tokenizer, "chat_template", None)))
    if tokenizer is None:
        return rows
    if tokenizer.eos_token is None and args.eos_token is None and "messages" not in rows.column_names:
        raise ConfigError(
            "the tokenizer has no eos_token, which ends every row; set eos_token to one of its tokens, or mend its "
            "tokenizer_config.json"
        )
    if not args.chat_template_path:
        _check_marks(args, tokenizer)
        refuse_dropped(rows, tokenizer)
    return rows


def check_prepared(
    raw: Any, rows: Any, args: ForesightConfig, tokenizer: PreTrainedTokenizerBase, known: int | None
) -> None:
    """Check what has become of training rows.

    Args:
        raw, rows: before and after TRL prepared them; raw is None where a function has made text of them.
        known: tokens of the tokenizer before that, if there was one.

    Raises:
        DataError: rows that would teach nothing, or something else than they say.
    """
    refuse_unknown(rows, tokenizer)
    if known is not None:
        refuse_new(rows, known, tokenizer)
    if not isinstance(raw, Dataset) or "input_ids" in raw.column_names:
        return
    if args.chat_template_path or known is None:  # the template was not known before
        refuse_dropped(raw, tokenizer)
    if not args.packing and (words := lost(len(raw), len(rows), args.max_length)):
        _log.warning("%s", words)


def template_to_keep(before: str | None, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The chat template that the trained model is to have, if not the one that it is trained with: a template that was
    only exchanged for one with generation marks. None if it keeps what it has.
    """
    now = tokenizer.chat_template
    exchanged = before is not None and now != before and _MARK in str(now) and _MARK not in before
    return before if exchanged else None


def _check_marks(args: ForesightConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    template = tokenizer.chat_template
    if not args.assistant_only_loss or not template or _MARK in str(template):
        return
    from trl.chat_template_utils import get_training_chat_template  # TRL knows the templates of many models

    try:
        get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ConfigError(
            "assistant_only_loss trains on what a chat template marks with {% generation %}, and the tokenizer's marks "
            "nothing. Set chat_template_path to a copy of it that does; the trained model gets its own back"
        ) from error
