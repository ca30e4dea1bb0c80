"""What a localizer is given, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedTokenizerBase

from ....model.components import ComponentTable
from ..intervention import head_names
from ..preferences import Behaviour


@dataclass(frozen=True)
class Case:
    """A model and a behaviour; a localizer must not look at the test questions."""

    model: Any
    table: ComponentTable
    tokenizer: PreTrainedTokenizerBase
    behaviour: Behaviour
    seed: int = 0


class Localizer(ABC):
    """Base of all localizers: `scores` says how much each head matters. Its settings are its constructor's keywords."""

    name: ClassVar[str]

    @abstractmethod
    def scores(self, case: Case) -> Mapping[str, float] | np.ndarray:
        """One number a head, the higher the more it matters: by name (heads left out come last), or in model order."""

    def rank(self, case: Case) -> list[str]:
        """The heads, those that matter most first; ties in model order.

        Raises:
            ConfigError, DataError: the case lacks what this localizer needs.
        """
        names = head_names(case.table)
        found = self.scores(case)
        if isinstance(found, Mapping):
            names = [name for name in names if name in found]
            found = np.array([found[name] for name in names])
        return [names[i] for i in np.argsort(-found, kind="stable")]
