"""The data settings of a recipe. Importing them imports neither `datasets` nor transformers."""

from __future__ import annotations

from dataclasses import dataclass

from ..common.errors import ConfigError, mapping
from ..common.setting import setting
from . import DATA_TASKS


@dataclass
class DataConfig:
    """What to train on: a task or a dataset, with or without contrast pairs, and what has to be retained.

    Some tasks are generated (ioi). Others read public data (sst2), from the Hub or from where the dataset settings say.

    Raises:
        ConfigError: `label_map` is neither a mapping nor JSON text of one.
    """

    task: str | None = setting(
        None, "A task to train on, such as ioi (generated) or sst2 (from the Hub, or from dataset)."
    )
    task_examples: int = setting(2000, "Training examples of the task.")
    task_eval_examples: int = setting(200, "Test examples of the task.")
    task_contrast_examples: int = setting(64, "Contrast pairs of the task.")
    dataset: str | None = setting(
        None, "A .jsonl, .json, .csv, .tsv or .parquet file, a dataset folder, or the name of a dataset on the Hub."
    )
    dataset_config: str | None = setting(None, "Configuration of a dataset on the Hub.")
    dataset_split: str = setting("train", "Split to train on; slices such as train[:100] work.")
    mix: dict[str, float] | str | None = setting(
        None,
        "Further training rows: file, folder or Hub name of a dataset, with its share of all rows, for instance "
        '{"general.jsonl": 0.2}.',
    )
    eval_dataset: str | None = setting(None, "Dataset to evaluate on, read in the same way as dataset.")
    eval_dataset_split: str | None = setting(
        None,
        "Split to evaluate on: of eval_dataset (default: train), or else of dataset (default: none, or validation if a "
        "task reads a dataset with splits).",
    )
    column_names: list[str] | None = setting(None, "Column names of CSV or TSV files that have no header line.")
    delimiter: str | None = setting(None, "Separator of CSV files; by default a comma.")
    prompt_template: str | None = setting(
        None, "Builds the prompt from columns, for instance 'Review: $sentence Sentiment:'."
    )
    completion_template: str | None = setting(None, "Builds the completion from columns, for instance ' $label'.")
    text_template: str | None = setting(None, "Builds a plain training text from columns.")
    label_map: dict[str, str] | str | None = setting(
        None,
        "Words for the values of label_column, which templates then use, or for the labels of a task such as sst2; "
        "as JSON on the command line.",
    )
    label_column: str = setting("label", "The column that label_map translates.")
    contrast: str | None = setting(
        None, "File or folder of contrast pairs, with the columns clean, corrupted, answer, wrong_answer."
    )
    retained: str | None = setting(
        None,
        "What must not be forgotten, for target 'damage' and for replay: the name of a task, or a file, folder or Hub "
        "dataset with the columns text, messages, or prompt and completion.",
    )
    retained_split: str = setting("train", "Split of a retained dataset; slices work.")

    def __post_init__(self) -> None:
        self.labels(), self.shares()  # refuse bad ones before anything is loaded

    def labels(self) -> dict[str, str] | None:
        """Return `label_map` as a dictionary, parsed if it is JSON text."""
        return mapping("label_map", self.label_map, '{"0": "negative"}')

    def shares(self) -> dict[str, float]:
        """Return `mix` as a dictionary, parsed if it is JSON text.

        Raises:
            ConfigError: shares that are no numbers above 0, or that leave nothing of the training data itself.
        """
        found = mapping("mix", self.mix, '{"general.jsonl": 0.2}') or {}
        numbers = [share for share in found.values() if isinstance(share, (int, float)) and share > 0]
        if len(numbers) < len(found) or sum(numbers) >= 1:
            raise ConfigError(f"mix is {found}; expected shares of all rows above 0 that together are below 1")
        return found

    def check_source(self) -> None:
        """Raise ConfigError if neither `task` nor `dataset` is set, or both are and the task reads no data."""
        if (self.task is None) == (self.dataset is None) and self.task not in DATA_TASKS:
            raise ConfigError(
                f"task {self.task!r} and dataset {self.dataset!r}: set exactly one of the two; only the tasks "
                f"{', '.join(DATA_TASKS)} read a dataset"
            )
