"""Users' data: local files, local folders and Hub datasets as tables.

Everything is read through `datasets`. This module chooses the reader by the file name, and makes errors name the file,
the line and the remedy.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from datasets import Dataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from ..common.errors import ConfigError, DataError, did_you_mean
from ..common.files import missing

_READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True)
class Source:
    """Where a training table and a test table are.

    Attributes:
        path: Hub name, folder or file of the training table; empty for a data task's own data set on the Hub.
        config: configuration of a Hub data set, or of a folder that has several.
        split: split to train on; slices such as ``train[:1000]`` work.
        test_path: Hub name, folder or file of the test table, if it is elsewhere.
        test_split: split to test on.
        column_names, delimiter: for CSV and TSV files without a header line or with another separator.
    """

    path: str = ""
    config: str | None = None
    split: str = "train"
    test_path: str | None = None
    test_split: str | None = None
    column_names: Sequence[str] | None = None
    delimiter: str | None = None

    def read(self, held_out: str | None = "validation") -> tuple[Dataset, Dataset | None]:
        """Read the training table and the test table.

        If no test table is named, a data set with splits has it in `held_out`. A file, or a folder written by
        ``Dataset.save_to_disk``, is a single table that holds both, and the second result is None.

        Raises:
            DataError: as `read_table`.
        """
        train = self._table(self.path, self.split)
        if self.test_path is not None:
            return train, self._table(self.test_path, self.test_split or "train")
        single = Path(self.path).is_file() or (Path(self.path) / "state.json").is_file()
        split = self.test_split or (None if single else held_out)
        return train, self._table(self.path, split) if split else None

    def _table(self, path: str, split: str) -> Dataset:
        return read_table(path, split, name=self.config, column_names=self.column_names, delimiter=self.delimiter)


def read_table(
    source: str | Path,
    split: str = "train",
    *,
    name: str | None = None,
    column_names: Sequence[str] | None = None,
    delimiter: str | None = None,
) -> Dataset:
    """Read one table.

    Args:
        source: a .jsonl, .json, .csv, .tsv or .parquet file; a folder written by ``save_to_disk``; a folder laid out
            as on the Hub; or the name of a Hub dataset, of which `name` is the configuration.
        split: the split, or a slice of it such as ``train[:100]``; a single file is one split called ``train``.
        column_names: for CSV and TSV files without a header line.
        delimiter: for CSV; a .tsv file is tab-separated, and its quotation marks are ordinary characters.

    Raises:
        DataError: a file that is missing, damaged or empty, or an unknown split.
        ConfigError: column names or a delimiter for a file that is neither CSV nor TSV.
    """
    path = Path(source)
    if path.is_file():
        table = _read_file(path, split, column_names, delimiter)
    elif path.is_dir():
        table = _read_folder(path, split, name)
    elif problem := missing(source):
        raise DataError(problem)
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
    if reader != "parquet":
        _check_encoding(path)
    options = {}
    if reader == "csv":
        options = {"delimiter": delimiter or ("\t" if path.suffix == ".tsv" else ","), "keep_default_na": False}
        if path.suffix == ".tsv":
            options["quoting"] = csv.QUOTE_NONE
        if column_names:
            options["column_names"] = list(column_names)
    try:
        return load_dataset(reader, data_files={"train": escape(str(path))}, split=split, **options)
    except DatasetGenerationError as error:
        if path.suffix == ".jsonl":
            _check_json_lines(path)
        raise DataError(f"{path}: cannot be read as {reader}: {error.__cause__ or error}") from error
    except ValueError as error:
        raise DataError(
            f"{path}: split {split!r} is empty or unknown ({error}); a file is one split, 'train', or a slice of it"
        ) from error


def _check_encoding(path: Path) -> None:
    """The JSON reader would pass other encodings on, to fail where nobody knows the file any more."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: byte {line[error.start]:#04x} is not UTF-8; if the file is in Latin-1, "
                    f"convert it: iconv -f latin1 -t utf-8 {path.name}"
                ) from error


def _check_json_lines(path: Path) -> None:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line) if line.strip() else {}
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not valid JSON ({error}): {line.strip()[:80]!r}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected one JSON object per line, got {line.strip()[:80]!r}")


def _read_folder(path: Path, split: str, name: str | None) -> Dataset:
    if (path / "state.json").is_file():
        if split != "train":
            raise DataError(f"{path}: a saved table without splits has no split {split!r}; leave it at 'train'")
        return load_from_disk(str(path))
    if (path / "dataset_dict.json").is_file():
        tables = load_from_disk(str(path))
        if split not in tables:
            raise DataError(f"{path}: no split {split!r}{did_you_mean(split, tables)}; it has {', '.join(tables)}")
        return tables[split]
    return _read_hub(str(path), split, name)


def _read_hub(source: str, split: str, name: str | None) -> Dataset:
    try:
        return load_dataset(source, name, split=split)
    except DatasetGenerationError as error:
        raise DataError(f"dataset {source!r} cannot be read: {error.__cause__ or error}") from error
    except (DatasetNotFoundError, ConnectionError, FileNotFoundError) as error:
        raise DataError(f"{source!r}: no such file or folder, and no Hub dataset within reach: {error}") from error
    except ValueError as error:  # an unknown split or configuration; the message of `datasets` lists the known ones
        raise DataError(f"dataset {source!r}: {error}") from error
