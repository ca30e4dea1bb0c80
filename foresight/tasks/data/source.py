"""Where the rows of a data task are: a data set on the Hub, or the same tables in a local folder or in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from ..read_table import read_table


@dataclass(frozen=True)
class Source:
    """The tables of a data task, read by `read_table`.

    Attributes:
        path: Hub name, folder or file of the training table; empty for the task's own data set on the Hub.
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

    def read(self) -> tuple[Dataset, Dataset | None]:
        """Read the training table and the test table.

        If no test table is named, a data set with splits has it in ``validation``. A file, or a folder written by
        ``Dataset.save_to_disk``, is a single table that holds both, and the second result is None.

        Raises:
            DataError: as `read_table`.
        """
        train = self._table(self.path, self.split)
        if self.test_path is not None:
            return train, self._table(self.test_path, self.test_split or "train")
        if self.test_split is None and (Path(self.path).is_file() or (Path(self.path) / "state.json").is_file()):
            return train, None
        return train, self._table(self.path, self.test_split or "validation")

    def _table(self, path: str, split: str) -> Dataset:
        return read_table(path, split, name=self.config, column_names=self.column_names, delimiter=self.delimiter)
