"""The best edit at a location: alignment by IPO, with the model without the edit as reference.

The loss is the mean over pairs of [(log ratio of the right answer) - (log ratio of the wrong one) - 1 / (2 tau)]^2,
where a log ratio is the policy's log-probability minus the reference's (Azar et al., arXiv 2310.12036, equation 17),
per token of the answer. Every right answer of a question is paired with every wrong one, and a step takes whole
questions: each answer is run once for all of its pairs, where trainers of pairs run it once for each (`packed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments

from ...model.components import ComponentTable, stored_transposed
from ...training.masked import FiniteLoss
from .intervention import NONE, Intervention
from .localizers import head_names, head_taps
from .packed import Packed, batches, collate, log_probabilities, pack
from .preferences import Question


def arguments(
    folder: str | Path,
    learning_rate: float,
    epochs: float = 2.0,
    batch_size: int = 4,
    more: dict[str, Any] | None = None,
    seed: int = 0,
) -> TrainingArguments:
    """How an edit is trained on the CPU or an accelerator. The learning rate falls to zero along a cosine.

    Args:
        batch_size: questions per step.
        more: further fields of TrainingArguments.
    """
    settings: dict[str, Any] = dict(
        output_dir=str(folder),
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        seed=seed,
        use_cpu=not torch.accelerator.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=50,
        remove_unused_columns=False,
    )
    return TrainingArguments(**(settings | (more or {})))


class _IPO(Trainer):
    """The loss, for `IPOTrainer` to check."""

    tau: float
    pairs_per_question: float
    log_p: Tensor

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        texts, values = _per_token(model, inputs)
        ratio = values - self.log_p.to(values.device)[texts]
        right, wrong = ratio[torch.searchsorted(texts, inputs["pairs"])].T
        loss = (right - wrong - 1 / (2 * self.tau)).square().sum() / (
            len(inputs["questions"]) * self.pairs_per_question
        )
        return (loss, None) if return_outputs else loss


class IPOTrainer(FiniteLoss, _IPO):
    """Trains an edit; the reference is the same model with the edit off.

    Every pair counts the same: the loss of a step is the sum over its pairs, divided by the number of pairs that as
    many questions have on average.

    Args:
        edit: attached to the model, the trainable parameters of which are the edit's.
        reference: log-probability per token of every answer of the questions by the reference, in their order, as
            `reference` gives it; by default it is computed.

    Raises:
        NonFiniteError: in training, when the loss became NaN or infinite.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        questions: Sequence[Question],
        args: TrainingArguments,
        tau: float,
        edit: Intervention = NONE,
        reference: Sequence[float] | None = None,
    ):
        self.edit, self.tau = edit, tau
        self.packs = pack(tokenizer, [(q.prompt, answer) for q in questions for answer, _ in q.answers])
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # as in TRL's trainers of preferences: chance would be part of the log ratios
        rows = list(_rows(questions, self.packs))
        self.pairs_per_question = sum(len(pairs) for _, pairs in rows) / len(rows)
        super().__init__(model=model, args=args, data_collator=_batch, train_dataset=rows, processing_class=tokenizer)
        self.model_accepts_loss_kwargs = False  # so that losses of accumulated steps are averaged
        self.log_p = torch.tensor(self.reference() if reference is None else list(reference))

    def reference(self) -> list[float]:
        """Log-probability per token of every answer of the questions, with the edit off."""
        found = torch.zeros(sum(len(one.answers) for one in self.packs))
        with torch.no_grad(), self.edit.off(), self.accelerator.autocast():
            for packs in batches(self.packs):
                texts, values = _per_token(self.model, self._prepare_inputs(collate(packs)))
                found[texts.cpu()] = values.cpu()
        return found.tolist()


def _per_token(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The texts of a batch, ascending, and the mean log-probability of a token of each, float32."""
    log_p = log_probabilities(model, batch).gather(1, batch["token"][:, None])[:, 0]
    texts, where, counts = batch["text"].unique(return_inverse=True, return_counts=True)
    return texts, log_p.new_zeros(len(texts)).index_add(0, where, log_p) / counts


Row: TypeAlias = tuple[list[Packed], list[tuple[int, int]]]


def _rows(questions: Sequence[Question], packs: Sequence[Packed]) -> Iterator[Row]:
    """Of every question, its packed answers and its pairs of texts, right and wrong."""
    of_text = {text: one for one in packs for text in one.texts}
    at = 0
    for q in questions:
        right, wrong = range(at, at + len(q.right)), range(at + len(q.right), at + len(q.answers))
        at += len(q.answers)
        yield list({id(of_text[i]): of_text[i] for i in (*right, *wrong)}.values()), list(product(right, wrong))


def _batch(rows: Sequence[Row]) -> dict[str, Tensor]:
    packs = [one for of_question, _ in rows for one in of_question]
    pairs = torch.tensor([pair for _, of_question in rows for pair in of_question])
    return collate(packs) | {"pairs": pairs, "questions": torch.arange(len(rows))}


def lora(model: nn.Module, table: ComponentTable) -> LoraConfig:
    """Full alignment as published: LoRA of rank one and scale one on every attention output projection."""
    targets = list(head_taps(table, head_names(table)))
    transposed = stored_transposed(model.get_submodule(targets[0]))
    return LoraConfig(
        r=1, lora_alpha=1, lora_dropout=0.0, target_modules=targets, fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )  # fmt: skip
