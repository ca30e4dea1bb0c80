"""What a run is to keep: retained rows, from the user or from the base model, and the measure of damage to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.errors import ConfigError, DataError
from ..policies.proxies import PROXIES, make_proxy
from ..scoring.probes import Probe, TextProbe
from ..scoring.scorer import Scorer
from ..scoring.virtual_moves import DAMAGE, VirtualMoves
from ..tasks.generated_text import TextSource, generate_once, read
from .replay import COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset

    from .trainer import ForesightTrainer

_REMEDY = (
    "give a retained dataset (setting retained, or retained_dataset in Python), or let the base model write one "
    "(retained_source: base)"
)


@dataclass(frozen=True)
class Retained:
    """Retained rows.

    Attributes:
        rows: tokenized like the training rows, columns input_ids and labels.
        seconds: that the base model took to write them now; 0 for given rows, and for those found in the run's folder.
    """

    rows: Dataset
    seconds: float = 0.0


def retained_rows(trainer: ForesightTrainer, dataset: Dataset | None) -> Retained | None:
    """The rows to keep, or None if the run has no use for any (no replay, and no damage or a stand-in for it).

    Text of the base model is kept in the run's folder as retained-*.jsonl, so that a resumed run has the same.

    Raises:
        ConfigError: rows are needed and there are none, or settings that do not go together.
        DataError: rows that cannot be used.
    """
    args = trainer.args
    replays, damages = args.replay_share > 0, DAMAGE in trainer.policy.measures
    if args.retained_source in PROXIES:
        if replays:
            raise ConfigError(
                f"replay_share is {args.replay_share}, but {args.retained_source!r} has no rows; {_REMEDY}"
            )
        return None
    if not replays and not damages:
        return None
    if replays:
        _refuse_replay(trainer)
    if args.retained_source == "base":
        return _written(trainer, dataset)
    if dataset is None:
        what = f"policy {args.policy!r}" if damages else f"replay_share {args.replay_share}"
        weaker = f", or choose a weaker stand-in for damage: {', '.join(PROXIES)}" if damages and not replays else ""
        raise ConfigError(f"{what} needs to know what is to be kept: {_REMEDY}{weaker}")
    return Retained(_prepared(trainer, dataset))


def virtual_moves(trainer: ForesightTrainer) -> VirtualMoves:
    """What measures benefit, and damage if the policy asks for it.

    Raises:
        ConfigError: a scorer was chosen, which the policy would not use, or a stand-in for damage that does not fit.
        DataError: retained rows without a token to predict.
    """
    args = trainer.args
    if args.scorer != "auto":
        raise ConfigError(
            f"policy {args.policy!r} chooses by virtual moves, not by scorer {args.scorer!r}; leave it at 'auto'"
        )
    if args.retained_source == "activation" and args.granularity != "components":
        raise ConfigError(
            f"retained_source 'activation' with granularity {args.granularity!r}: only components have activations; "
            "use 'fisher' or 'movement'"
        )
    kept: Probe | Scorer | None = None
    if DAMAGE in trainer.policy.measures:
        if trainer.retained is None:
            kept = make_proxy(args.retained_source, trainer.bank)
        else:
            kept = TextProbe.from_dataset(trainer.retained.rows, args.probe_batch_size, args.probe_examples)
    return VirtualMoves(args.learning_rate, args.adam_epsilon, kept)


def _prepared(trainer: ForesightTrainer, dataset: Dataset) -> Dataset:
    """Tokenized, labelled and cut as training rows are; only completions count where there are completions."""
    whole = trainer.completion_only_loss
    if trainer.args.completion_only_loss is None:
        trainer.completion_only_loss = {"prompt", "completion"} <= set(dataset.column_names)
    try:
        rows = trainer._prepare_dataset(dataset, trainer.processing_class, trainer.args, False, None, "retained")
    finally:
        trainer.completion_only_loss = whole
    if len(rows) == 0:
        raise DataError("no retained row has a token to predict within max_length; check its columns and labels")
    return rows.select_columns(COLUMNS)


def _written(trainer: ForesightTrainer, prompts: Dataset | None) -> Retained:
    from datasets import Dataset

    args, place = trainer.args, trainer.bank.placement
    if place.sharded:
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
    source = TextSource(args.retained_examples, args.retained_tokens, args.seed, texts)
    path = trainer.output / f"retained-{source.key(trainer.bank.base.hash)}.jsonl"
    seconds = 0.0
    if args.should_save:
        seconds = generate_once(trainer.model, trainer._tokenizer, source, path)
    trainer.accelerator.wait_for_everyone()
    rows = read(path)
    table = Dataset.from_list([{name: row[name] for name in COLUMNS} for row in rows])
    return Retained(_prepared(trainer, table), seconds)


def _refuse_replay(trainer: ForesightTrainer) -> None:
    args = trainer.args
    if args.packing or not hasattr(trainer.train_dataset, "__len__"):
        raise ConfigError("replay_share needs training rows that can be counted: no packing, no streaming dataset")
    if args.train_sampling_strategy != "random":
        raise ConfigError(
            f"replay_share with train_sampling_strategy {args.train_sampling_strategy!r}: expected 'random', since it "
            "decides which rows are retained ones"
        )
