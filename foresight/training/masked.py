"""What turns a trainer of transformers into one of masked runs: the loop around a `Run`."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer
from transformers.trainer_utils import TrainOutput, rotate_checkpoints

from ..bank.delta import INFO, write_delta
from ..bank.optimizer import BankAdamW
from ..common.errors import CheckpointError, ConfigError, NonFiniteError, StoppedError
from ..common.files import files_sha256, one_writer, write_whole
from ..common.plugins import part
from ..trajectory.trajectory import Trajectory
from . import checkpoint
from .card import NAME, card
from .config import ForesightConfig
from .remask import RemaskCallback, diverged
from .run import Run
from .stopping import StopInTime

_ADAMW = ("adamw_torch", "adamw_torch_fused")


class _FinishedError(Exception):
    """The checkpoint that a run goes on from is that of its last step."""


class FiniteLoss(Trainer):
    """A trainer that stops at a loss that is not finite; transformers would go on and log zero.

    To be named before a trainer of transformers among the bases. Raises NonFiniteError in training, before anything
    learns from the loss, with the message of `diverged`.
    """

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = result[0] if return_outputs else result
        if self.model.training and not torch.isfinite(loss):
            raise NonFiniteError(self.diverged(f"the loss is {loss.item()}"))
        return result

    def diverged(self, what: str) -> str:
        """The message: what is not finite, where, and the remedy."""
        return f"{what} at step {self.state.global_step + 1}; lower learning_rate"


class MaskedTrainer(FiniteLoss):
    """To be named before any trainer of transformers that steps an optimizer over a causal LM:

        class MaskedX(MaskedTrainer, X):
            def __init__(self, model, args, train_dataset, **kwargs):
                refuse(args, kwargs)
                super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
                run = Run(self.model, args, target_of(args))
                run.watch(self.train_dataset, None, self.processing_class)
                self.drive(run)

    Rows that the run scores or replays must be tokenized, with columns input_ids and labels.

    Attributes:
        run: the `Run`; remasking: the callback that probes and re-masks; stopping: the one that stops in time.
        trained_on: the data in words, for the model card.
        template_to_keep: the chat template that the model is saved with, if it is trained with another.
    """

    run: Run
    remasking: RemaskCallback
    stopping: StopInTime
    trained_on: str = "rows given from Python"
    template_to_keep: str | None = None

    def drive(self, run: Run) -> None:
        """Train this run from now on. Called once, at the end of `__init__`.

        Raises:
            ConfigError: a trainer whose model generates while it is trained, which is untested with a mask.
        """
        for trainer in type(self).__mro__:
            if trainer.__name__ in ("GRPOTrainer", "RLOOTrainer"):
                raise ConfigError(f"{trainer.__name__} is not supported: it generates with a model whose mask moves")
        self.run, self.remasking = run, RemaskCallback(run)
        run.fixed = checkpoint.fixed(run.args, self.train_dataset)
        if run.watcher is not None:
            run.fixed["scored examples"] = run.watcher.examples.hash
        if run.retained is not None and run.args.retained_source == "data":
            run.fixed["retained rows"] = checkpoint.digest(run.retained.rows)
        if run.args.world_size > 1:
            part("training.ranks.refuse_unequal_run")(run, self.eval_dataset)
        run.log, run.autocast = self.note, self.accelerator.autocast
        self.stopping = StopInTime(run)
        self.add_callback(self.remasking)
        self.add_callback(self.stopping)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """AdamW over the bank, with an age per vector, by the config; policies may scale the learning rate."""
        args, run = self.args, self.run
        if self.optimizer is None:
            optimizer = part("training.sharding.optimizer_class")(args) if args.deepspeed else BankAdamW
            run.optimizer = optimizer(
                run.bank.vectors,
                args.learning_rate * run.policy.rate_factor(run.n_vectors, run.mask_seed),
                (args.adam_beta1, args.adam_beta2),
                args.adam_epsilon,
                args.weight_decay,
            )
            self.optimizer: torch.optim.Optimizer = run.optimizer
        return self.optimizer

    def _get_dataloader(self, dataset, *args, is_training: bool = False, **kwargs):
        # With replay, training batches come from training rows and retained rows.
        if is_training and self.args.replay_share:
            assert self.run.retained is not None
            dataset = part("training.retention.with_retained")(dataset, self.run.retained.rows)
        return super()._get_dataloader(dataset, *args, is_training=is_training, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None):
        if not self.args.replay_share:
            return super()._get_train_sampler(train_dataset)
        assert self.run.retained is not None and train_dataset is not None
        args, retained = self.args, len(self.run.retained.rows)
        seed = args.seed if args.data_seed is None else args.data_seed
        sampler = part("training.retention.ReplaySampler")
        return sampler(len(train_dataset) - retained, retained, args.replay_share, seed)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train, from the start or from a checkpoint, and write the delta to `output_dir/delta` at the end.

        A finished run that is resumed has nothing left to do and stays as it is.

        Args:
            resume_from_checkpoint: a checkpoint folder, or True for the last complete one of `output_dir`; where the
                run was killed before its first, it begins anew.

        Raises:
            CheckpointError: every checkpoint is damaged, or the one given, or it is of another model.
            ConfigError: a fresh run into a folder that holds a run, or another process trains there.
            StoppedError: it was asked to stop (see `StopInTime`); its checkpoint is complete.
            NonFiniteError: the loss or its gradient became NaN or infinite; the last checkpoint is untouched.
            MaskLeakError: something outside the mask changed, or nothing inside it did.
        """
        with one_writer(self.run.output) if self.args.should_save else nullcontext():
            return self._train_alone(resume_from_checkpoint, **kwargs)

    def _train_alone(self, resume_from_checkpoint: str | bool | None, **kwargs: Any) -> TrainOutput:
        if resume_from_checkpoint is True:
            last = checkpoint.last_complete(self.run.output)
            if last is None:
                self._clear_away()
            resume_from_checkpoint = None if last is None else str(last)
        elif resume_from_checkpoint:
            checkpoint.check(resume_from_checkpoint)
        if not resume_from_checkpoint:
            self._start_afresh()
        delta = self.run.output / "delta"
        try:
            with self.stopping:
                result = super().train(resume_from_checkpoint or None, **kwargs)
        except _FinishedError:
            self.run.step = self.state.global_step
            if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
                self._load_best_model()
            if not (delta / INFO).exists():  # killed in between
                self.save_delta(delta)
            return TrainOutput(self.state.global_step, float("nan"), {})
        if self.stopping.code is not None:
            raise StoppedError(
                f"stopped {self.stopping.reason} after step {self.state.global_step}: "
                f"{checkpoint.last_complete(self.run.output)} is complete; continue with --resume "
                "(resume_from_checkpoint=True)",
                self.stopping.code,
            )
        self.save_delta(delta)
        return result

    def _clear_away(self) -> None:
        """Remove what a run left that was killed before its first checkpoint: nothing of it was learned."""
        output = self.run.output
        checkpoint.refuse_damaged(output)
        if (output / "delta" / INFO).exists():
            raise CheckpointError(f"{output} holds a finished run without checkpoints; there is nothing to resume")
        self.accelerator.wait_for_everyone()  # every rank has looked
        if self.args.should_save:
            for folder in (output / checkpoint.TRAJECTORY, *output.glob("checkpoint-*")):
                shutil.rmtree(folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _start_afresh(self) -> None:
        run, args = self.run, self.args
        used = (run.output / checkpoint.TRAJECTORY).exists() or any(run.output.glob("checkpoint-*"))
        self.accelerator.wait_for_everyone()  # every rank has looked before one of them writes
        if used:
            raise ConfigError(
                f"{run.output} already holds a run; continue it with --resume (resume_from_checkpoint=True), or name "
                "another output_dir"
            )
        if args.should_save:
            self._save_tokenizer(run.output / "tokenizer")
        if run.policy.scouts == "bank":
            part("training.scout.scout")(self)
        elif run.policy.scouts:
            part("training.scout.lora_scout")(self)
        if run.watcher is not None:
            folder = run.output / checkpoint.TRAJECTORY if args.should_save else None
            hashes = {"model_hash": run.bank.base.hash, "data_hash": run.watcher.examples.hash}
            run.watcher.trajectory = Trajectory.create(folder, run.table, **hashes, info=run.trajectory_info())

    def diverged(self, what: str) -> str:
        # Of `FiniteLoss`.
        return diverged(self.run, what, self.state.global_step + 1)

    def note(self, numbers: dict[str, float]) -> None:
        """Log numbers now, without making the training loop believe that its own turn to log is over. What trainers
        such as TRL's add to their log lines (token accuracy, entropy) waits for the next of those.
        """
        due = self.control.should_log
        Trainer.log(self, numbers)
        self.control.should_log = due

    # -- files --------------------------------------------------------------------------------------------------------

    def save_delta(self, folder: str | Path) -> None:
        """Write everything this run has changed as a delta (see foresight.bank.delta)."""
        ids, values = self.run.bank.changed()
        if self.args.should_save:
            info = self.run.base_info() | {"tokenizer": files_sha256(self.run.output / "tokenizer")}
            write_delta(folder, self.run.numbers, ids, values, info, self.run.bank.base.tensors)
            self.create_model_card()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the model card of the run (see `foresight.training.card`)."""
        if self.args.should_save:
            text = card(self.run, self.trained_on, self.state)
            write_whole(self.run.output / NAME, lambda path: path.write_text(text))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a merged model that plain transformers loads; inside a checkpoint, the bank and ledger instead."""
        folder = Path(output_dir or self.args.output_dir)
        if _internal_call:
            checkpoint.save(self.run, folder)
            return
        merged = self.run.bank.merged_state_dict()
        if self.args.should_save:
            self.model.save_pretrained(folder, state_dict=merged)
            self._save_tokenizer(folder)

    def _save_tokenizer(self, folder: Path) -> None:
        used = self.processing_class.chat_template
        self.processing_class.chat_template = self.template_to_keep or used
        self.processing_class.save_pretrained(folder)
        self.processing_class.chat_template = used

    def _save_checkpoint(self, model, trial) -> None:
        # Older checkpoints go only after this one is complete, so the limit is applied here instead of by the parent.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # the random states of all ranks are in the folder
        if self.args.should_save:
            checkpoint.seal(self.run.output / f"checkpoint-{self.state.global_step}")
            best = self.state.best_model_checkpoint
            rotate_checkpoints(output_dir=str(self.run.output), save_total_limit=limit, best_model_checkpoint=best)

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):
        # The parent would look for whole-model or DeepSpeed checkpoints; a run's own state is the same for all.
        prepared, bank = super()._prepare_for_training(max_steps, train_dataloader, None), self.run.bank
        if self.args.gradient_checkpointing:
            # With checkpointing, transformers makes the embeddings' output need a gradient, which non-reentrant
            # checkpointing does without: every backward pass would go below the mask, down to the embeddings.
            self.model.disable_input_require_grads()
        if self.args.deepspeed:
            if self.model_wrapped.optimizer.optimizer is not self.run.optimizer:
                raise ConfigError("DeepSpeed has replaced the bank's optimizer; leave the choice of it to foresight")
            engine, wait = self.model_wrapped, self.args.ddp_timeout
            bank.place(part("bank.zero.ZeroPlacement")(self.model, engine, wait))
            self.run.optimizer.rank = bank.placement.rank
        if resume_from_checkpoint is not None:
            folder = Path(resume_from_checkpoint)
            changed = part("training.resuming.load")(self.run, folder)
            state = torch.load(folder / "scheduler.pt", weights_only=True)
            part("training.resuming.load_scheduler")(self.lr_scheduler, self.optimizer, state, changed)
            self._load_scaler(resume_from_checkpoint)
            if self.state.global_step >= max_steps:
                raise _FinishedError
        return prepared

    def _load_best_model(self) -> None:
        folder = self.run.output / Path(self.state.best_model_checkpoint).name
        part("training.resuming.load_best")(self.run, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        """Nothing yet: the state is loaded when the optimizer exists, see `_prepare_for_training`."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.args.should_save:  # the optimizer's moments are among the run's own tensors
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")


def refuse(args: Any, kwargs: dict[str, Any], expected: type[Any] = ForesightConfig) -> None:
    """Raise ConfigError for what a bank cannot be combined with, among the settings and further arguments of the
    trainer, and for ways of running that are known to go wrong; before any work is done.

    Args:
        expected: the class that the settings must have.
    """
    for name, remedy in {
        "peft_config": "the bank is the adapter; use SFTTrainer for a PEFT run",
        "optimizers": "the bank has its own optimizer; set learning_rate, adam_beta1/2, adam_epsilon, weight_decay",
        "optimizer_cls_and_kwargs": "the bank has its own optimizer; set learning_rate, adam_beta1/2, weight_decay",
        "quantization_config": "folding needs float32 or bfloat16 weights",
    }.items():
        if kwargs.get(name) not in (None, (None, None)):
            raise ConfigError(f"ForesightTrainer does not take {name}: {remedy}")
    if not isinstance(args, expected):
        name, given = expected.__name__, type(args).__name__
        raise ConfigError(f"args is a {given}; expected a {name}, which takes the same settings")
    if args.optim not in _ADAMW:
        raise ConfigError(f"optim is {args.optim!r}; the bank is trained with AdamW, leave optim at its default")
    if args.enable_jit_checkpoint:
        raise ConfigError("leave enable_jit_checkpoint off: at SIGTERM every run writes a checkpoint by itself")
    if args.save_only_model:
        raise ConfigError("save_only_model leaves nothing to resume from; leave it off, the bank is small")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if args.deepspeed or launched > 1 or args.world_size > 1 or getattr(args, "parallelism_config", None) is not None:
        part("training.sharding.refuse_world")(args)
        part("training.ranks.refuse_unequal_settings")(args)
