"""Where the rows of a data task lie: a hub data set, or the same tables in a local folder or in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from ..files import read_table


@dataclass(frozen=True)
class Source:
    """The tables of a data task, read by `read_table`.

    Attributes:
        path: hub name, folder or file of the training table.
        config: configuration of a hub data set or of a folder that has several.
        split: split to train on; slices such as ``train[:1000]`` work.
        test_path: hub name, folder or file of the test table, if it lies elsewhere.
        test_split: split to test on.
        column_names, delimiter: for CSV and TSV files without a header line, or with another separator.
    """

    path: str
    config: str | None = None
    split: str = "train"
    test_path: str | None = None
    test_split: str | None = None
    column_names: Sequence[str] | None = None
    delimiter: str | None = None

    def read(self) -> tuple[Dataset, Dataset | None]:
        """The training table and the test table.

        If no test table is named, a data set with splits has it in ``validation``, and None says that the one table
        (a file, or a folder written by ``Dataset.save_to_disk``) holds both. Raises DataError as `read_table` does.
        """
        train = self._table(self.path, self.split)
        if self.test_path is not None:
            return train, self._table(self.test_path, self.test_split or "train")
        if self.test_split is None and (Path(self.path).is_file() or (Path(self.path) / "state.json").is_file()):
            return train, None
        return train, self._table(self.path, self.test_split or "validation")

    def _table(self, path: str, split: str) -> Dataset:
        return read_table(path, split, name=self.config, column_names=self.column_names, delimiter=self.delimiter)
