"""Which model a command works on. Importing these settings imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..common.setting import setting
from .shipped import SHIPPED, model_path


@dataclass
class ModelConfig:
    """The model of a run."""

    model: str | None = setting(
        None, "Local folder or Hugging Face Hub name; by default the model shipped with foresight."
    )
    model_revision: str | None = setting(None, "Branch, tag or commit on the Hub.")
    tokenizer: str | None = setting(None, "Folder or Hub name of the tokenizer, if the model has none of its own.")
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "Data type of the frozen weights; auto takes the checkpoint's."
    )
    from_config: bool = setting(False, "Start from random weights (see `seed`); the folder needs only config.json.")

    @classmethod
    def of(cls, model: str) -> ModelConfig:
        """Return the settings of a folder or Hub name, or of the shipped model for `SHIPPED`."""
        return cls(None if model == SHIPPED else model)

    @property
    def source(self) -> str:
        """What `from_pretrained` is given."""
        return self.model or str(model_path())
