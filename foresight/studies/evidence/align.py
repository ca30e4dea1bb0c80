"""The best edit at a location: alignment by IPO, with the model without the edit as reference.

The loss is the mean over pairs of [(log ratio of the chosen answer) - (log ratio of the rejected) - 1 / (2 tau)]^2,
where a log ratio is the policy's log-probability minus the reference's (Azar et al., arXiv 2310.12036, equation 17).
TRL's DPOTrainer minimises it, with log-probabilities per token of the answer. The reference's log-probabilities are
computed once, before the first step, with the edit switched off.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from ...model.components import ComponentTable, stored_transposed
from ...training.masked import FiniteLoss
from .edit import RankOneEdit
from .intervention import Intervention, head_names, head_taps


@dataclass(frozen=True)
class Alignment:
    """How an edit is trained. The learning rate falls to zero along a cosine.

    Attributes:
        tau: strength of the pull towards the reference; a smaller value lets the edit go further.
        more: further fields of TRL's DPOConfig.
    """

    tau: float
    learning_rate: float
    epochs: float = 2.0
    batch_size: int = 4
    seed: int = 0
    use_cpu: bool = True
    more: dict[str, Any] = field(default_factory=dict)

    def arguments(self, folder: str | Path) -> DPOConfig:
        settings: dict[str, Any] = dict(
            output_dir=str(folder),
            loss_type="ipo",
            beta=self.tau,
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=32,
            learning_rate=self.learning_rate,
            lr_scheduler_type="cosine",
            num_train_epochs=self.epochs,
            per_device_train_batch_size=self.batch_size,
            seed=self.seed,
            use_cpu=self.use_cpu,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=50,
        )
        return DPOConfig(**(settings | self.more))


class WithoutEnd(DataCollatorForPreference):
    """Removes the end-of-sequence token that DPOTrainer appends to every answer.

    With answers of one or two tokens it would be half of the loss: an edit could win by never ending wrong answers.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        cut = [e | {key: e[key][:-1] for key in ("chosen_ids", "rejected_ids")} for e in examples]
        return super().torch_call(cut)


class IPOTrainer(FiniteLoss, DPOTrainer):
    """DPOTrainer whose reference is the same model with the edit off."""

    def __init__(self, *args, edit: RankOneEdit | None = None, **kwargs):
        self.edit = edit
        super().__init__(*args, **kwargs)

    def compute_ref_log_probs(self, model, inputs):
        with self.edit.off() if self.edit is not None else nullcontext():
            return super().compute_ref_log_probs(model, inputs)


class AdapterEdit(Intervention):
    """A PEFT model as an intervention."""

    def __init__(self, model: Any):
        self.model = model

    def off(self) -> AbstractContextManager:
        return self.model.disable_adapter()


def align(
    edit: RankOneEdit, model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: Dataset, how: Alignment, folder: Path
) -> IPOTrainer:
    """Train an edit that is attached to `model`, on rows with columns prompt, chosen, rejected; return the trainer.

    Raises:
        NonFiniteError: the loss became NaN or infinite.
    """
    trainer = _trainer(model, tokenizer, rows, how, folder, edit=edit)
    trainer.train()
    return trainer


def align_lora(
    model: nn.Module,
    table: ComponentTable,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    how: Alignment,
    folder: Path,
) -> tuple[Any, AdapterEdit]:
    """Full alignment as published: rank-one LoRA on every output projection. Returns the PEFT model and its edit.

    Raises:
        NonFiniteError: as `align`.
    """
    trainer = _trainer(model, tokenizer, rows, how, folder, peft_config=lora(model, table))
    trainer.train()
    return trainer.model, AdapterEdit(trainer.model)


def lora(model: nn.Module, table: ComponentTable) -> LoraConfig:
    """LoRA of rank one and scale one on every attention output projection."""
    targets: Sequence[str] = list(head_taps(table, head_names(table)))
    transposed = stored_transposed(model.get_submodule(targets[0]))
    return LoraConfig(
        r=1, lora_alpha=1, lora_dropout=0.0, target_modules=list(targets), fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )  # fmt: skip


def _trainer(model, tokenizer, rows: Dataset, how: Alignment, folder: Path, **more) -> IPOTrainer:
    arguments = how.arguments(folder)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return IPOTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=WithoutEnd(pad_token_id=pad, max_length=arguments.max_length),
        **more,
    )
