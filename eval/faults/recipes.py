"""Recipes that cannot mean what they say: each has to be refused with its file or setting."""

from __future__ import annotations

import random
from pathlib import Path

from .alter import Change

_WHOLE = """task: gender
task_examples: 16
task_eval_examples: 8
policy: static
budget: 0.2
max_steps: 2
learning_rate: 0.01
per_device_train_batch_size: 4
use_cpu: true
bf16: false
gradient_checkpointing: false
report_to: none
"""

_BAD: dict[str, tuple[str, str]] = {
    "a key twice": ("budget: 0.2", "budget: 0.2\nbudget: 0.4"),
    "the task twice": ("task: gender", "task: gender\ntask: boolean"),
    "a typing error": ("learning_rate", "learning_rte"),
    "no number": ("0.01", ".nan"),
    "an infinite number": ("budget: 0.2", "budget: .inf"),
    "a negative number": ("max_steps: 2", "max_steps: -2\nnum_train_epochs: -1"),
    "a list for a number": ("budget: 0.2", "budget: [0.2, 0.4]"),
    "a mapping for a name": ("policy: static", "policy: {static: true}"),
    "a name for a number": ("max_steps: 2", "max_steps: two"),
    "a name that is none": ("policy: static", "policy: statik"),
    "a tab": ("budget: 0.2", "budget:\n\t0.2"),
    "an open bracket": ("budget: 0.2", "budget: [0.2"),
    "a Python object": ("budget: 0.2", "budget: !!python/object/apply:os.getcwd []"),
    "an alias that is none": ("budget: 0.2", "budget: *none"),
    "a list at the top": ("task: gender", "- task: gender"),
    "two documents": ("task: gender", "task: gender\n---\ntask: boolean"),
    "text after": ("report_to: none", "report_to: none\nthe end"),
    "a number as a key": ("budget: 0.2", "budget: 0.2\n3: 4"),
    "a budget above one": ("budget: 0.2", "budget: 1.2"),
    "an empty setting's name": ("budget: 0.2", "'': 0.2"),
}


def _written(before: str, after: str) -> Change:
    def change(path: Path, rng: random.Random) -> str:
        path.write_text(_WHOLE.replace(before, after))
        return f"{before!r} became {after!r}"

    return change


RECIPES: dict[str, Change] = {name: _written(*pair) for name, pair in _BAD.items()}
