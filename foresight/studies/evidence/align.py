"""The best edit at a location: alignment by IPO, with the model without the edit as reference.

The loss is the mean over pairs of [(log ratio of the chosen answer) - (log ratio of the rejected) - 1 / (2 tau)]^2,
where a log ratio is the policy's log-probability minus the reference's (Azar et al., arXiv 2310.12036, equation 17),
per token of the answer. TRL's DPOTrainer minimises it; the reference's log-probabilities are computed once, before the
first step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from ...model.components import ComponentTable, stored_transposed
from ...training.masked import FiniteLoss
from .edit import NONE, Intervention
from .localizers import head_names, head_taps
from .measures import pad_id


def arguments(
    folder: str | Path,
    tau: float,
    learning_rate: float,
    epochs: float = 2.0,
    batch_size: int = 4,
    more: dict[str, Any] | None = None,
    seed: int = 0,
) -> DPOConfig:
    """How an edit is trained on the CPU or an accelerator. The learning rate falls to zero along a cosine.

    Args:
        tau: strength of the pull towards the reference; a smaller value lets the edit go further.
        more: further fields of TRL's DPOConfig.
    """
    settings: dict[str, Any] = dict(
        output_dir=str(folder),
        loss_type="ipo",
        beta=tau,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=32,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        seed=seed,
        use_cpu=not torch.accelerator.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=50,
    )
    return DPOConfig(**(settings | (more or {})))


class WithoutEnd(DataCollatorForPreference):
    """Removes the end-of-sequence token that DPOTrainer appends to every answer.

    With answers of one or two tokens it would be half of the loss: an edit could win by never ending wrong answers.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        cut = [e | {key: e[key][:-1] for key in ("chosen_ids", "rejected_ids")} for e in examples]
        return super().torch_call(cut)


class IPOTrainer(FiniteLoss, DPOTrainer):
    """DPOTrainer whose reference is the same model with the edit off.

    Args:
        rows: columns prompt, chosen, rejected.
        edit: attached to the model; without one, PEFT's adapter is the edit (`more`: its configuration).

    Raises:
        NonFiniteError: in training, when the loss became NaN or infinite.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: Dataset,
        args: DPOConfig,
        edit: Intervention = NONE,
        **more: Any,
    ):
        self.edit = edit
        collator = WithoutEnd(pad_token_id=pad_id(tokenizer), max_length=args.max_length)
        super().__init__(
            model=model, args=args, data_collator=collator, train_dataset=rows, processing_class=tokenizer, **more
        )

    def compute_ref_log_probs(self, model, inputs):
        with self.edit.off():
            return super().compute_ref_log_probs(model, inputs)


def lora(model: nn.Module, table: ComponentTable) -> LoraConfig:
    """Full alignment as published: LoRA of rank one and scale one on every attention output projection."""
    targets = list(head_taps(table, head_names(table)))
    transposed = stored_transposed(model.get_submodule(targets[0]))
    return LoraConfig(
        r=1, lora_alpha=1, lora_dropout=0.0, target_modules=targets, fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )  # fmt: skip
