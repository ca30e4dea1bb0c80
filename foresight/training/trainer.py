"""`ForesightTrainer`: TRL's SFTTrainer with a bank for its trainable state and a policy that decides the mask."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel
from trl import SFTTrainer

from ..bank import AnyBank
from ..common.plugins import part
from ..forecasters.forecaster import Forecaster
from ..masks.schedule import MaskSchedule
from ..model.components import ComponentTable
from ..policies.policy import Policy
from ..scoring.scorer import DAMAGE
from ..trajectory.trajectory import Trajectory
from .config import ForesightConfig, target_of
from .masked import MaskedTrainer, refuse
from .rows import check_prepared, checked, template_to_keep
from .run import Run


class ForesightTrainer(MaskedTrainer, SFTTrainer):
    """Fine-tunes a causal LM through a bank of fixed size whose mask a policy decides.

    Args:
        model: a path or hub name, or a loaded Hugging Face causal LM. It is frozen; the bank is attached to it.
        args: a `ForesightConfig`.
        train_dataset: as SFTTrainer takes it (text, messages, prompt/completion, or tokenized).
        contrast_dataset: `datasets` table with columns clean, corrupted, answer, wrong_answer; needed by
            attribution-type scorers.
        forecaster: an object with the `Forecaster` protocol instead of `args.forecaster`.
        retained_dataset: what must not be forgotten, as SFTTrainer takes it: for target `damage` and replay. With
            `retained_source: base` its prompts are continued by the model before training.
        **kwargs: everything else that SFTTrainer takes, except peft_config, optimizers and quantization.

    Attributes:
        run: the `Run`, with everything of it; the most used parts have names here:
        table: `ComponentTable`; bank: the bank; policy: the policy; schedule: the `MaskSchedule` so far;
        trajectory: `Trajectory` of this run, or None while nothing was scored.

    Raises:
        ConfigError: settings that contradict each other or the model; raised before any work is done.
        DataError: a dataset of which nothing would be learned, or a row or contrast pair that cannot be used.
    """

    completion_only_loss: bool

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: ForesightConfig | None = None,
        train_dataset: Dataset | None = None,
        contrast_dataset: Dataset | None = None,
        forecaster: Forecaster | None = None,
        retained_dataset: Dataset | None = None,
        **kwargs: Any,
    ):
        args = args or ForesightConfig(output_dir="foresight-run")
        refuse(args, kwargs)
        target, pairs = target_of(args), contrast_dataset is not None
        target.check(pairs, retained_dataset is not None or args.retained_source != "data")
        tokenizer = kwargs.get("processing_class")
        known, template = (len(tokenizer), tokenizer.chat_template) if tokenizer is not None else (None, None)
        formatted = kwargs.get("formatting_func") is not None
        rows = checked(train_dataset, args, tokenizer, formatted)
        super().__init__(model=model, args=args, train_dataset=rows, **kwargs)
        check_prepared(None if formatted else rows, self.train_dataset, args, self._tokenizer, known)
        self.template_to_keep = template_to_keep(template, self._tokenizer)
        run = Run(self.model, args, target, pairs, forecaster)
        if run.policy.scouts:
            part("training.scout.refuse_scout")(args, self.train_dataset)
        if args.replay_share:
            part("training.retention.refuse_replay")(args, self.train_dataset)
        if args.replay_share or DAMAGE in target.measures:
            given = args, target, run.bank, self._tokenizer, retained_dataset
            run.retained = part("training.retention.retained_rows")(*given, self._prepared)
        run.watch(self.train_dataset, contrast_dataset, self._tokenizer)
        self.drive(run)

    @property
    def table(self) -> ComponentTable:
        return self.run.table

    @property
    def bank(self) -> AnyBank:
        return self.run.bank

    @property
    def policy(self) -> Policy:
        return self.run.policy

    @property
    def schedule(self) -> MaskSchedule:
        return self.run.schedule

    @property
    def trajectory(self) -> Trajectory | None:
        return self.run.trajectory

    def _prepared(self, dataset: Dataset) -> Dataset:
        """Tokenized, labelled and cut as training rows are; only completions count where there are completions."""
        whole = self.completion_only_loss
        if self.args.completion_only_loss is None:
            self.completion_only_loss = {"prompt", "completion"} <= set(dataset.column_names)
        try:
            return self._prepare_dataset(dataset, self.processing_class, self.args, False, None, "retained")
        finally:
            self.completion_only_loss = whole
