"""Which model a command works on. Importing these settings imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .shipped import SHIPPED, model_path


@dataclass
class ModelConfig:
    """The model of a run."""

    model: str | None = field(
        default=None,
        metadata={"help": "Local folder or Hugging Face Hub name; by default the model shipped with foresight."},
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit on the Hub."})
    tokenizer: str | None = field(
        default=None, metadata={"help": "Folder or Hub name of the tokenizer, if the model has none of its own."}
    )
    dtype: Literal["auto", "float32", "bfloat16"] = field(
        default="auto", metadata={"help": "Data type of the frozen weights; auto takes the checkpoint's."}
    )
    from_config: bool = field(
        default=False, metadata={"help": "Start from random weights (see `seed`); the folder needs only config.json."}
    )

    @classmethod
    def of(cls, model: str) -> ModelConfig:
        """Return the settings of a folder or Hub name, or of the shipped model for `SHIPPED`."""
        return cls(None if model == SHIPPED else model)

    @property
    def source(self) -> str:
        """What `from_pretrained` is given."""
        return self.model or str(model_path())
