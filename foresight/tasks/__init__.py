"""Generated tasks, tasks over public data and users' files: training data, contrast pairs, metrics."""

from .base import Example, Task, split_of
from .config import DataConfig, load_data
from .data import DataTask, Source
from .evaluation import HeldOut, evaluate
from .files import read_table, to_training
from .own import OwnTask
from .pairs import PAIR_COLUMNS, check_pairs
from .registry import DATA_TASKS, NOVEL_TASKS, TASKS, task

__all__ = [
    "DATA_TASKS",
    "PAIR_COLUMNS",
    "TASKS",
    "DataConfig",
    "DataTask",
    "NOVEL_TASKS",
    "Example",
    "HeldOut",
    "OwnTask",
    "Source",
    "Task",
    "check_pairs",
    "evaluate",
    "load_data",
    "read_table",
    "split_of",
    "task",
    "to_training",
]
