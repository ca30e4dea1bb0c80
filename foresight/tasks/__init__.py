"""Tasks: training data, contrast pairs and a metric. Generated ones, ones over public data, and users' own files.

`task(name)` finds one. Importing this package imports no task, and neither `datasets` nor transformers.
"""

from .task_names import DATA_TASKS, NOVEL_TASKS, TASKS, task

__all__ = ["DATA_TASKS", "NOVEL_TASKS", "TASKS", "task"]
