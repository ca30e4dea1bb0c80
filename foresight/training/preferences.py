"""Preference tuning: TRL's DPOTrainer with a bank and a mask (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from datasets import Dataset
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer

from ..common.errors import ConfigError
from .config import MAPPINGS, ForesightConfig, complete, target_of
from .masked import MaskedTrainer, refuse
from .run import Run
from .settings import MaskSettings


@dataclass
class ForesightDPOConfig(MaskSettings, DPOConfig):
    """Settings of a masked preference run; every DPOConfig field is valid as well.

    The log probabilities of the model as it begins are computed once, before training, so that no second model is kept.

    Raises:
        ConfigError: as ForesightConfig; and for replay and target `damage`, whose retained rows are those of SFT.
    """

    _VALID_DICT_FIELDS = [*DPOConfig._VALID_DICT_FIELDS, *MAPPINGS]
    precompute_ref_log_probs: bool = True

    def __post_init__(self) -> None:
        complete(self, super().__post_init__)
        if self.replay_share or self.target == "damage":
            name = "replay_share" if self.replay_share else "target 'damage'"
            raise ConfigError(
                f"{name} needs retained rows, which preference tuning does not take; use ForesightTrainer"
            )


class ForesightDPOTrainer(MaskedTrainer, DPOTrainer):
    """Direct preference optimization through a bank of fixed size whose mask a policy decides.

    Scores that come along with training are of the preference loss. Those of a probe, such as the first snapshot, are
    of the chosen answers' log probability.

    Args:
        model: a path or hub name, or a loaded Hugging Face causal LM. It is frozen; the bank is attached to it.
        args: a `ForesightDPOConfig`.
        train_dataset: as DPOTrainer takes it: prompt, chosen, rejected, as text or messages.
        **kwargs: everything else that DPOTrainer takes, except peft_config, optimizers and quantization.

    Attributes:
        run: the `Run`, with table, bank, policy, schedule and trajectory.

    Raises:
        ConfigError: settings that contradict each other or the model; raised before any work is done.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: ForesightDPOConfig | None = None,
        train_dataset: Dataset | None = None,
        **kwargs: Any,
    ):
        args = args or ForesightDPOConfig(output_dir="foresight-run")
        refuse(args, kwargs, ForesightDPOConfig)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        settings = cast(ForesightConfig, args)
        run = Run(self.model, settings, target_of(args))
        chosen = self.train_dataset.map(_chosen, fn_kwargs={"longest": args.max_length})
        run.watch(chosen, None, self.processing_class)
        self.drive(run)


def _chosen(row: Mapping[str, Any], longest: int | None) -> dict[str, list[int]]:
    """The prompt and the chosen answer as one row, of which the answer counts."""
    prompt, answer = list(row["prompt_ids"]), list(row["chosen_ids"])
    ids, labels = prompt + answer, [-100] * len(prompt) + answer
    return {"input_ids": ids[:longest], "labels": labels[:longest]}
