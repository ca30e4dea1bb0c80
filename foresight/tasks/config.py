"""What to train on: the data settings of a recipe, and the tables they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..common.errors import ConfigError, mapping
from .data import DataTask, Source
from .files import read_table, to_training
from .pairs import check_pairs
from .registry import DATA_TASKS, TASKS
from .registry import task as task_by_name


@dataclass
class DataConfig:
    """Data settings: either a task or a dataset of the user's, with or without contrast pairs.

    Some tasks are generated (ioi), others read public data (sst2): from the hub, or from where the dataset settings
    say.
    """

    task: str | None = field(
        default=None,
        metadata={"help": "A task to train on, such as ioi (generated) or sst2 (from the hub, or from dataset)."},
    )
    task_examples: int = field(default=2000, metadata={"help": "Training examples of the task."})
    task_eval_examples: int = field(default=200, metadata={"help": "Test examples of the task."})
    task_contrast_examples: int = field(default=64, metadata={"help": "Contrast pairs of the task."})
    dataset: str | None = field(
        default=None,
        metadata={"help": "A .jsonl, .json, .csv, .tsv or .parquet file, a dataset folder, or a hub dataset's name."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a hub dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split to train on; slices as in train[:100] work."})
    eval_dataset: str | None = field(
        default=None, metadata={"help": "Dataset to evaluate on, read like the training dataset."}
    )
    eval_dataset_split: str | None = field(
        default=None,
        metadata={
            "help": "Split to evaluate on, of eval_dataset (default: train) or else of dataset (default: none; "
            "validation if a task reads a dataset with splits)."
        },
    )
    column_names: list[str] | None = field(
        default=None, metadata={"help": "Column names of CSV or TSV files that have no header line."}
    )
    delimiter: str | None = field(default=None, metadata={"help": "Separator of CSV files (default: a comma)."})
    prompt_template: str | None = field(
        default=None, metadata={"help": "Builds the prompt from columns, for instance 'Review: $sentence Sentiment:'."}
    )
    completion_template: str | None = field(
        default=None, metadata={"help": "Builds the completion from columns, for instance ' $label'."}
    )
    text_template: str | None = field(default=None, metadata={"help": "Builds a plain training text from columns."})
    label_map: dict[str, str] | str | None = field(
        default=None,
        metadata={
            "help": "Words for the values of label_column (as JSON on the command line), used by the templates, or for "
            "the labels of a task such as sst2."
        },
    )
    label_column: str = field(default="label", metadata={"help": "The column that label_map translates."})
    contrast: str | None = field(
        default=None,
        metadata={"help": "File or folder of contrast pairs: columns clean, corrupted, answer, wrong_answer."},
    )
    retained: str | None = field(
        default=None,
        metadata={
            "help": "What must not be forgotten, for policy 'damage' and replay: a task's name, or a file, folder or "
            "hub dataset with columns text, messages, or prompt and completion."
        },
    )
    retained_split: str = field(default="train", metadata={"help": "Split of a retained dataset; slices work."})

    def __post_init__(self) -> None:
        self.labels()  # a bad label_map is refused before anything is loaded

    def labels(self) -> dict[str, str] | None:
        """`label_map` as a dictionary, parsed if it came as JSON text. Raises ConfigError if it is neither."""
        return mapping("label_map", self.label_map, '{"0": "negative"}')


def load_data(
    config: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """The training table, the evaluation table and the contrast pairs (None where there are none).

    Raises ConfigError if neither of `task` and `dataset` is set, or both though the task reads no data; DataError for
    unusable data.
    """
    if (config.task is None) == (config.dataset is None) and config.task not in DATA_TASKS:
        raise ConfigError(
            f"task {config.task!r} and dataset {config.dataset!r}: set exactly one of the two; only the tasks "
            f"{', '.join(DATA_TASKS)} read a dataset"
        )
    train, evaluation, pairs = _of_task(config, tokenizer, seed) if config.task else (*_read(config), None)
    if config.contrast:
        pairs = read_table(config.contrast)
        check_pairs(pairs, tokenizer)
    return train, evaluation, pairs


def load_retained(config: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> Dataset | None:
    """The retained table, None if there is none; of a task, `task_examples` training examples. Rows that another run's
    base model wrote (input_ids and labels, of the same tokenizer) stay as they are.

    Raises DataError for unusable data.
    """
    if config.retained is None:
        return None
    if config.retained in (*TASKS, *DATA_TASKS):
        return task_by_name(config.retained).dataset(tokenizer, "train", config.task_examples, seed)
    table = read_table(config.retained, config.retained_split)
    if {"input_ids", "labels"} <= set(table.column_names):
        return table.select_columns(["input_ids", "labels"])
    return to_training(table, source=config.retained)


def _of_task(config: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    for template in ("prompt_template", "completion_template", "text_template"):
        if getattr(config, template):
            raise ConfigError(f"{template} is set, but the task {config.task!r} writes its own prompts; remove one")
    chosen = task_by_name(str(config.task))
    if isinstance(chosen, DataTask):
        chosen = task_by_name(chosen.name, _source(config, chosen.source), config.labels())
    return (
        chosen.dataset(tokenizer, "train", config.task_examples, seed),
        chosen.dataset(tokenizer, "test", config.task_eval_examples, seed),
        chosen.contrast(tokenizer, "train", config.task_contrast_examples, seed),
    )


def _source(config: DataConfig, hub: Source) -> Source:
    start = Source(config.dataset) if config.dataset else hub
    return replace(
        start,
        config=config.dataset_config or start.config,
        split=config.dataset_split,
        test_path=config.eval_dataset,
        test_split=config.eval_dataset_split,
        column_names=config.column_names,
        delimiter=config.delimiter,
    )


def _read(config: DataConfig) -> tuple[Dataset, Dataset | None]:
    train = _table(config, str(config.dataset), config.dataset_split)
    if config.eval_dataset is None and config.eval_dataset_split is None:
        return train, None
    return train, _table(config, config.eval_dataset or str(config.dataset), config.eval_dataset_split or "train")


def _table(config: DataConfig, source: str, split: str) -> Dataset:
    table = read_table(
        source, split, name=config.dataset_config, column_names=config.column_names, delimiter=config.delimiter
    )
    return to_training(
        table,
        prompt_template=config.prompt_template,
        completion_template=config.completion_template,
        text_template=config.text_template,
        label_map=config.labels(),
        label_column=config.label_column,
        source=source,
    )
