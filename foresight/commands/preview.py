"""`foresight preview`: what the model will see of the training rows. Loads the data and the tokenizer, no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
from datasets import Dataset
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from ..common.console import console
from ..model.loading import load_tokenizer
from ..model.model_config import ModelConfig
from ..tasks.data_config import DataConfig
from ..tasks.load_data import load_data
from ..tasks.seen import LOOKED_AT, lost, refuse_unknown, spaced, unknown_share
from ..training.config import ForesightConfig
from ..training.rendered import rendered
from ..training.rows import checked
from .settings import build

_NUMBER = "number in the table"


def show(values: Mapping[str, Any], rows: int) -> None:
    """Print what the settings of a run make of its training rows, and some of them as they are trained on.

    Raises:
        ConfigError, DataError: as the run would.
    """
    data, settings, args = build(DataConfig, values), build(ModelConfig, values), build(ForesightConfig, values)
    tokenizer = load_tokenizer(settings)
    table = checked(load_data(data, tokenizer, args.seed)[0], args, tokenizer, formatted=False)
    places = spaced(len(table), LOOKED_AT)
    looked_at = table.select(places).add_column(_NUMBER, places)
    seen = rendered(looked_at, tokenizer, args)
    if len(seen) == 0:
        lost(len(looked_at), 0, args.max_length)  # says so
    console().print(_summary(len(table), looked_at, seen, tokenizer, args))
    for row in seen.select(spaced(len(seen), rows)):
        console().print(Rule(style="dim"))
        console().print(_text(row, tokenizer, console()))
    refuse_unknown(seen, tokenizer)
    lost(len(looked_at), len(seen), args.max_length)


def _summary(
    given: int, looked_at: Dataset, seen: Dataset, tokenizer: PreTrainedTokenizerBase, args: ForesightConfig
) -> Table:
    lengths = np.array([len(row["input_ids"]) for row in seen])
    trained = np.array([sum(label != -100 for label in row["labels"]) for row in seen])
    table = Table(title="What the model will see", title_justify="left", show_header=False)
    of_them = "" if given == len(looked_at) else f", of which {len(looked_at):,} were looked at"
    table.add_row("training rows", f"{given:,}{of_them}")
    table.add_row("tokens in a row", f"{lengths.mean():.0f} on average, {lengths.max():,} at most")
    table.add_row("of them trained on", f"{trained.sum() / lengths.sum():.0%}")
    if args.max_length:
        table.add_row(f"cut to max_length ({args.max_length:,})", f"{(lengths >= args.max_length).mean():.1%} of rows")
    missing = sorted(set(looked_at[_NUMBER]) - set(seen[_NUMBER]))
    first = f", the first is row {missing[0]:,}" if missing else ""
    table.add_row("left out, with nothing to train on", f"{len(missing) / len(looked_at):.1%} of rows{first}")
    table.add_row("unknown tokens", f"{unknown_share(seen, tokenizer):.1%}")
    return table


def _text(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, to: Console) -> Text:
    """A row as text; what is trained on is green, or between ⟦ and ⟧ where there are no colours."""
    text = Text()
    for trained, ids in _parts(row):
        words = tokenizer.decode(ids)
        marked = words if not trained or to.is_terminal else f"⟦{words}⟧"
        text.append(marked, "bold green" if trained else "dim")
    return text


def _parts(row: Mapping[str, Any]) -> Iterator[tuple[bool, list[int]]]:
    """Stretches of tokens that are all trained on, or all not."""
    pairs = zip(row["labels"], row["input_ids"], strict=True)
    for trained, stretch in groupby(pairs, lambda pair: pair[0] != -100):
        yield trained, [token for _, token in stretch]
