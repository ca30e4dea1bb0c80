"""Stopping in time: asked to by SIGTERM, or after some hours, a run writes a checkpoint and ends."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from .run import Run


class StopInTime(TrainerCallback):
    """Ends a run with a checkpoint, after the step in which it was asked to; a context manager around the loop. All
    processes stop after the same step. A run that ends anyway is left to end.

    Args:
        hours: wall time after which it asks itself; None for no limit.

    Attributes:
        code: exit code of a run that was stopped: that of the shell for SIGTERM, and for the time limit the one that
            says "try again" (EX_TEMPFAIL). None as long as nothing has stopped it.
    """

    code: int | None = None
    _asked = False

    def __init__(self, run: Run, hours: float | None = None):
        self.run, self.hours = run, hours

    def __enter__(self) -> StopInTime:
        self._began, self.code, self._asked = time.monotonic(), None, False
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():  # others cannot set handlers
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def on_step_end(self, args, state, control, **kwargs):
        late = self.hours is not None and time.monotonic() - self._began > 3600 * self.hours
        code = self.run.bank.placement.largest(128 + signal.SIGTERM if self._asked else 75 if late else 0)
        if code and state.global_step < state.max_steps:
            self.code, control.should_save, control.should_training_stop = code, True, True

    @property
    def reason(self) -> str:
        return f"at its limit of {self.hours:g} hours" if self.code == 75 else "by SIGTERM"
