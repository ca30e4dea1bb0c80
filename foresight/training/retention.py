"""What a run is to keep: retained rows, from the user or written by the base model, for damage and for replay.

In replay, retained rows take the place of some training rows, equally many in every batch, at no extra step. The
trainer keeps its loader: rows are one table, training rows first, and a sampler names them. It goes through the
training rows in the order they would have without replay and puts a retained row on fixed positions, so that batches,
accumulation, several processes and resuming stay what they are. A replaced training row is not seen in that epoch.
The loss stays a mean over tokens: retained rows with more labelled tokens than training rows weigh, and cost, more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from torch.utils.data import RandomSampler, Sampler
from transformers import PreTrainedTokenizerBase

from ..bank import AnyBank
from ..common.errors import ConfigError, DataError
from ..policies.targets import Target
from ..scoring.scorer import DAMAGE
from ..tasks.generated_text import TextSource, generate_once, read
from .checks import retained_size
from .config import ForesightConfig
from .run import Retained

COLUMNS = ["input_ids", "labels"]
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
    """The rows to keep, for damage or replay. Text of the base model is kept in the run's folder as retained-*.jsonl,
    so that a resumed run has the same.

    Raises:
        ConfigError: rows are needed and there are none, or settings that do not go together.
        DataError: rows that cannot be used.
    """
    seconds = 0.0
    if args.retained_source != "data":
        dataset, seconds = _written(args, bank, tokenizer, dataset)
    if dataset is None:
        what = f"target {args.target!r}" if DAMAGE in target.measures else f"replay_share {args.replay_share}"
        raise ConfigError(
            f"{what} needs to know what is to be kept: give a retained dataset (setting retained, or retained_dataset "
            "in Python), or let the base model write one (retained_source: base)"
        )
    rows = prepare(dataset)
    if len(rows) == 0:
        raise DataError("no retained row has a token to predict within max_length; check its columns and labels")
    return Retained(rows.select_columns(COLUMNS), seconds)


def refuse_replay(args: ForesightConfig, dataset: Dataset) -> None:
    """Raise ConfigError for training rows that retained rows cannot take the place of."""
    if args.packing or not hasattr(dataset, "__len__"):
        raise ConfigError("replay_share needs training rows that can be counted: no packing, no streaming dataset")
    if args.train_sampling_strategy != "random":
        raise ConfigError(
            f"replay_share with train_sampling_strategy {args.train_sampling_strategy!r}: expected 'random', since it "
            "decides which rows are retained ones"
        )


def _written(
    args: ForesightConfig, bank: AnyBank, tokenizer: PreTrainedTokenizerBase, prompts: Dataset | None
) -> tuple[Dataset, float]:
    """Text of the base model, and the seconds that it took now."""
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
    return Dataset.from_list([{name: row[name] for name in COLUMNS} for row in read(path)]), seconds


class ReplaySampler(Sampler[int]):
    """Positions in a table of `n_train` training rows followed by `n_retained` retained rows, for one epoch.

    Of any n consecutive rows of an epoch, n * share are retained ones, up to one row: of every batch exactly so, if
    its share is a whole number. Retained rows come in seeded random order, each once before any comes again, through
    all epochs.

    Args:
        share: in [0, 1).
        seed: of both orders; that of the training rows is the Hugging Face trainer's for this seed.
    """

    def __init__(self, n_train: int, n_retained: int, share: float, seed: int):
        self.n_train, self.n_retained, self.share, self.seed = n_train, n_retained, share, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the orders of an epoch, from 0; called by the loader."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_train

    def __iter__(self) -> Iterator[int]:
        order = RandomSampler(range(self.n_train), generator=torch.Generator().manual_seed(self.seed + self.epoch))
        done = self.epoch * self._replaced(self.n_train)  # retained rows of the epochs before
        for position, row in enumerate(order):
            if self._replaced(position + 1) > self._replaced(position):
                yield self.n_train + self._retained(done)
                done += 1
            else:
                yield row

    def _replaced(self, n: int) -> int:
        """Retained rows among the first n of an epoch."""
        return math.floor(n * self.share + 1e-9)

    def _retained(self, i: int) -> int:
        """The i-th retained row since training began."""
        turn, place = divmod(i, self.n_retained)
        if getattr(self, "_turn", None) != turn:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + turn)
            self._turn, self._order = turn, torch.randperm(self.n_retained, generator=generator).tolist()
        return self._order[place]


def with_retained(train: Dataset, retained: Dataset) -> Dataset:
    """One table for a `ReplaySampler`, of tokenized rows: columns input_ids and labels."""
    return concatenate_datasets([train.select_columns(COLUMNS), retained.select_columns(COLUMNS)])
