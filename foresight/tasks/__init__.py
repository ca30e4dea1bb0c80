"""Generated tasks and users' files: training data, contrast pairs, metrics."""

from .base import Example, Task, split_of
from .config import DataConfig, load_data
from .evaluation import evaluate
from .files import read_table, to_training
from .pairs import PAIR_COLUMNS, check_pairs
from .registry import TASKS, task

__all__ = [
    "PAIR_COLUMNS",
    "TASKS",
    "DataConfig",
    "Example",
    "Task",
    "check_pairs",
    "evaluate",
    "load_data",
    "read_table",
    "split_of",
    "task",
    "to_training",
]
