"""Users' data: local files, local folders and hub datasets, as tables that SFTTrainer takes.

Everything is read through `datasets`; what is added here is the choice of reader by file name, templates that build
prompt and completion from other columns, and errors that name the file, the line or the row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from ..common.errors import ConfigError, DataError, did_you_mean

_READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_TRAINABLE = (("messages",), ("prompt", "completion"), ("text",))
_COMPANIONS = ("tools", "chat_template_kwargs")  # columns that SFTTrainer reads beside the conversation


def read_table(
    source: str | Path,
    split: str = "train",
    *,
    name: str | None = None,
    column_names: Sequence[str] | None = None,
    delimiter: str | None = None,
) -> Dataset:
    """Read one table.

    source: a .jsonl, .json, .csv, .tsv or .parquet file; a folder written by ``save_to_disk``; a folder laid out as on
        the hub; or the name of a hub dataset, of which `name` is the configuration.
    split: the split, or a slice of it such as ``train[:100]``; a single file is one split called ``train``.
    column_names: for CSV and TSV files without a header line.
    delimiter: for CSV; a .tsv file is tab-separated, and its quotation marks are ordinary characters.

    Raises DataError for a file that is missing, damaged or empty, and for an unknown split.
    """
    path = Path(source)
    if path.is_file():
        table = _read_file(path, split, column_names, delimiter)
    elif path.is_dir():
        table = _read_folder(path, split, name)
    elif path.suffix in _READERS or path.is_absolute() or str(source).startswith(".") or len(path.parts) > 2:
        neighbours = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"no file or folder {str(source)!r}{did_you_mean(path.name, neighbours)}")
    else:
        table = _read_hub(str(source), split, name)
    if len(table) == 0:
        raise DataError(f"{source}: the dataset is empty; at least one row is needed")
    return table


def _read_file(path: Path, split: str, column_names: Sequence[str] | None, delimiter: str | None) -> Dataset:
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"{path}: cannot read {path.suffix!r} files; expected one of {', '.join(_READERS)}")
    if reader != "csv" and (column_names or delimiter):
        raise ConfigError(f"{path}: column_names and delimiter are for CSV and TSV files")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    options = {}
    if reader == "csv":
        options = {"delimiter": delimiter or ("\t" if path.suffix == ".tsv" else ","), "keep_default_na": False}
        if path.suffix == ".tsv":
            options["quoting"] = csv.QUOTE_NONE
        if column_names:
            options["column_names"] = list(column_names)
    try:
        return load_dataset(reader, data_files={"train": str(path)}, split=split, **options)
    except DatasetGenerationError as error:
        if path.suffix == ".jsonl":
            _check_json_lines(path)
        raise DataError(f"{path}: cannot be read as {reader}: {error.__cause__ or error}") from error
    except ValueError as error:
        raise DataError(
            f"{path}: split {split!r} is empty or unknown ({error}); a file is one split, 'train', or a slice of it"
        ) from error


def _check_json_lines(path: Path) -> None:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line) if line.strip() else {}
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: not valid JSON ({error}): {line.strip()[:80]!r}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected one JSON object a line, got {line.strip()[:80]!r}")


def _read_folder(path: Path, split: str, name: str | None) -> Dataset:
    if (path / "state.json").is_file():
        if split != "train":
            raise DataError(f"{path}: a saved table without splits has no split {split!r}; leave it at 'train'")
        return load_from_disk(str(path))
    if (path / "dataset_dict.json").is_file():
        return _choose(load_from_disk(str(path)), split, str(path))
    return _read_hub(str(path), split, name)


def _choose(tables: DatasetDict, split: str, source: str) -> Dataset:
    if split not in tables:
        raise DataError(f"{source}: no split {split!r}{did_you_mean(split, tables)}; it has {', '.join(tables)}")
    return tables[split]


def _read_hub(source: str, split: str, name: str | None) -> Dataset:
    try:
        return load_dataset(source, name, split=split)
    except DatasetGenerationError as error:
        raise DataError(f"dataset {source!r} cannot be read: {error.__cause__ or error}") from error
    except (DatasetNotFoundError, ConnectionError, FileNotFoundError) as error:
        raise DataError(f"{source!r} is no local file or folder, nor a reachable hub dataset: {error}") from error
    except ValueError as error:  # unknown split or configuration: datasets names those it knows
        raise DataError(f"dataset {source!r}: {error}") from error


def to_training(
    table: Dataset,
    *,
    prompt_template: str | None = None,
    completion_template: str | None = None,
    text_template: str | None = None,
    label_map: Mapping[str, str] | None = None,
    label_column: str = "label",
    source: str = "the dataset",
) -> Dataset:
    """`table` with the columns that SFTTrainer takes: messages, prompt and completion, or text.

    Without templates one of these sets must be there. Templates are ``string.Template`` texts over the table's columns
    (``"Review: $sentence\\nSentiment:"`` and ``" $label"``); `label_map` first replaces the values of `label_column`.

    Raises DataError for missing columns, unknown columns in a template, an unmapped label and an empty cell;
    ConfigError for templates that do not go together or are malformed.
    """
    if text_template and (prompt_template or completion_template):
        raise ConfigError("text_template excludes prompt_template and completion_template: choose one form")
    if bool(prompt_template) != bool(completion_template):
        raise ConfigError("prompt_template and completion_template need each other: give both, or text_template alone")
    given = {"prompt": prompt_template, "completion": completion_template, "text": text_template}
    templates = {column: text for column, text in given.items() if text}
    if label_map:
        if not templates:
            raise ConfigError("label_map needs templates that use the mapped label")
        table = _map_labels(table, label_map, label_column, source)
    if not templates:
        return _as_it_is(table, source)
    parsed = {column: _parse(text, column, table.column_names, source) for column, text in templates.items()}
    used = sorted({name for template in parsed.values() for name in template.get_identifiers()})

    def fill(row: dict, i: int) -> dict[str, str]:
        for name in used:
            if row[name] is None or row[name] == "":
                raise DataError(f"{source}: row {i} has no value in column {name!r}, which a template uses: {row}")
        return {column: template.substitute(row) for column, template in parsed.items()}

    return table.map(fill, with_indices=True, remove_columns=table.column_names, desc="Filling templates")


def _map_labels(table: Dataset, label_map: Mapping[str, str], column: str, source: str) -> Dataset:
    _require(column, table, source, "label_map")
    names = {str(key): str(value) for key, value in label_map.items()}
    labels = [str(value) for value in table[column]]
    for i, label in enumerate(labels):
        if label not in names:
            raise DataError(f"{source}: row {i} has {column} {label!r}, which label_map does not name: {table[i]}")
    return table.remove_columns(column).add_column(column, [names[label] for label in labels])


def _parse(text: str, column: str, columns: Sequence[str], source: str) -> Template:
    template = Template(text)
    if not template.is_valid():
        raise ConfigError(f"{column}_template {text!r} has a stray $; write $name for a column, $$ for a dollar sign")
    for name in template.get_identifiers():
        if name not in columns:
            raise DataError(
                f"{column}_template {text!r} names the column {name!r}{did_you_mean(name, columns)}; "
                f"{source} has {', '.join(columns)}"
            )
    if not template.get_identifiers():
        raise ConfigError(f"{column}_template {text!r} names no column, so every row would be the same")
    return template


def _as_it_is(table: Dataset, source: str) -> Dataset:
    for columns in _TRAINABLE:
        if all(column in table.column_names for column in columns):
            keep = [c for c in (*columns, *_COMPANIONS) if c in table.column_names]
            table = table.select_columns(keep)
            for column in columns:
                for i, value in enumerate(table[column]):
                    if value is None or (value == "" and column != "prompt"):
                        raise DataError(f"{source}: row {i} has no value in column {column!r}: {table[i]}")
            return table
    wanted = [column for columns in _TRAINABLE for column in columns]
    hints = "".join(did_you_mean(name, wanted) for name in table.column_names)
    raise DataError(
        f"{source} has the columns {', '.join(table.column_names)}{hints}; expected text, messages, or prompt and "
        "completion. Rename them, or build them with prompt_template and completion_template"
    )


def _require(column: str, table: Dataset, source: str, setting: str) -> None:
    if column not in table.column_names:
        raise DataError(
            f"{source} has no column {column!r}, which {setting} needs{did_you_mean(column, table.column_names)}; "
            f"it has {', '.join(table.column_names)}"
        )
