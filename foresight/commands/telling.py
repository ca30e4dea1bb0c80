"""What `foresight train` says while it runs: what it is about to do, one bar, and what becomes of the mask."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from ..common.console import progress_bar
from ..common.numbers import duration
from ..training.trainer import ForesightTrainer

EVERY = 15.0
"""Seconds between two lines about the progress where there is no terminal."""


class Telling(TrainerCallback):
    """Takes the place of the trainer's own bar and lines."""

    def __init__(self, trainer: ForesightTrainer):
        self.trainer = trainer
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar = progress_bar(self.console, disable=not self.console.is_terminal or trainer.args.disable_tqdm)
        for other in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(other)
        trainer.callback_handler.callbacks.insert(0, self)  # it speaks before anything is scored

    def on_train_begin(self, args, state, control, **kwargs):
        if args.should_save:
            for what, is_so in self._facts(state.max_steps).items():
                self.console.print(f"{what:>8}  {is_so}")
            self.bar.start()
            self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)
        self.began, self.first, self.last = time.monotonic(), state.global_step, time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if args.should_save:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        found = ", ".join(
            f"{name.replace('_', ' ')} {logs[name]:.4g}" for name in ("loss", "eval_loss") if name in logs
        )
        if not args.should_save or not found or not hasattr(self, "task"):
            return
        self.bar.update(self.task, description=found)
        now, done = time.monotonic(), state.global_step - self.first
        if self.bar.disable and done and now - self.last >= EVERY:
            left = (now - self.began) / done * (state.max_steps - state.global_step)
            self.console.print(f"step {state.global_step:,} of {state.max_steps:,}: {found}; {duration(left)} left")
            self.last = now

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.stop()

    @contextmanager
    def everything(self) -> Iterator[None]:
        """Print what the run says of its scores and masks, above the bar; on other processes, warnings alone."""
        log, handler = logging.getLogger("foresight"), _Handler(self.console)
        before = log.level
        log.setLevel(logging.INFO if self.trainer.args.should_save else logging.WARNING)
        log.addHandler(handler)
        try:
            yield
        finally:
            self.bar.stop()
            log.removeHandler(handler)
            log.setLevel(before)

    def _facts(self, steps: int) -> dict[str, str]:
        run, args = self.trainer.run, self.trainer.args
        trained, whole = run.bank.vectors.numel(), run.table.model_parameters
        device, dtype = args.device, str(run.bank.base.dtype).removeprefix("torch.")
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        processes = f" in each of {args.world_size} processes" if args.world_size > 1 else ""
        return {
            "model": f"{run.model_name}: {trained:,} of {whole:,} parameters are trained ({trained / whole:.2%})",
            "policy": f"{args.policy}, {len(run.table):,} components",
            "data": self.trainer.trained_on,
            "steps": f"{steps:,} of {rows} rows, learning rate {args.learning_rate:g}",
            "on": f"{name}, {dtype}{processes}",
            "results": str(run.output),
        }


class _Handler(logging.Handler):
    """Prints messages above the bar, without breaking lines."""

    def __init__(self, console: Console):
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(record.getMessage(), markup=False)
