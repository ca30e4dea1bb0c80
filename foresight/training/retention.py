"""What a run is to keep: retained rows, from the user or written by the base model, for damage and for replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..bank import AnyBank
from ..common.errors import ConfigError, DataError
from ..policies.targets import Target
from ..scoring.scorer import DAMAGE
from ..tasks.generated_text import TextSource, generate_once, read
from .checks import retained_size
from .config import ForesightConfig
from .replay import COLUMNS
from .run import Retained

_REMEDY = (
    "give a retained dataset (setting retained, or retained_dataset in Python), or let the base model write one "
    "(retained_source: base)"
)
Prepare = Callable[[Dataset], Dataset]
"""Tokenizes, labels and cuts rows as a trainer does its training rows; columns input_ids and labels."""


def retained_rows(
    args: ForesightConfig,
    target: Target,
    bank: AnyBank,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset | None,
    prepare: Prepare,
) -> Retained:
    """The rows to keep, for damage or replay.

    Text of the base model is kept in the run's folder as retained-*.jsonl, so that a resumed run has the same.

    Raises:
        ConfigError: rows are needed and there are none, or settings that do not go together.
        DataError: rows that cannot be used.
    """
    if args.retained_source != "data":
        return _written(args, bank, tokenizer, dataset, prepare)
    if dataset is None:
        what = f"target {args.target!r}" if DAMAGE in target.measures else f"replay_share {args.replay_share}"
        raise ConfigError(f"{what} needs to know what is to be kept: {_REMEDY}")
    return Retained(_usable(prepare(dataset)))


def refuse_replay(args: ForesightConfig, dataset: Dataset) -> None:
    """Raise ConfigError for training rows that retained rows cannot take the place of."""
    if args.packing or not hasattr(dataset, "__len__"):
        raise ConfigError("replay_share needs training rows that can be counted: no packing, no streaming dataset")
    if args.train_sampling_strategy != "random":
        raise ConfigError(
            f"replay_share with train_sampling_strategy {args.train_sampling_strategy!r}: expected 'random', since it "
            "decides which rows are retained ones"
        )


def _usable(rows: Dataset) -> Dataset:
    if len(rows) == 0:
        raise DataError("no retained row has a token to predict within max_length; check its columns and labels")
    return rows.select_columns(COLUMNS)


def _written(
    args: ForesightConfig,
    bank: AnyBank,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Dataset | None,
    prepare: Prepare,
) -> Retained:
    if bank.placement.sharded:
        raise ConfigError(
            "retained_source 'base' is not supported under ZeRO 3, whose weights no process has whole; start the run "
            "without ZeRO 3 once, then give the retained-*.jsonl of its folder as retained dataset"
        )
    texts = None
    if prompts is not None:
        column = next((name for name in ("prompt", "text") if name in prompts.column_names), None)
        if column is None:
            found = ", ".join(prompts.column_names)
            raise DataError(f"the retained dataset has no column prompt or text to be continued; it has {found}")
        texts = tuple(prompts[column])
    size = retained_size(args)
    source = TextSource(size["examples"], size["tokens"], args.seed, texts)
    path = Path(args.output_dir) / f"retained-{source.key(bank.base.hash)}.jsonl"
    seconds = 0.0
    if args.should_save:
        seconds = generate_once(bank.model, tokenizer, source, path)
    PartialState().wait_for_everyone()
    table = Dataset.from_list([{name: row[name] for name in COLUMNS} for row in read(path)])
    return Retained(_usable(prepare(table)), seconds)
