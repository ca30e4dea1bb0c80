"""The bank's AdamW by DeepSpeedCPUAdam's kernel: several times faster where the optimizer is offloaded to the CPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from torch import Tensor, nn

from .optimizer import BankAdamW


class BankCPUAdam(BankAdamW):
    """`BankAdamW` in DeepSpeed's vectorised C++ (compiled at first use, which takes a minute).

    DeepSpeedCPUAdam itself counts one step for a whole parameter, but its kernel takes the step as an argument. So the
    kernel is called once per stretch of consecutive rows of equal age.

    Raises:
        RuntimeError: the kernel cannot be compiled here (it needs a C++ compiler and ninja), or a parameter is not on
            the CPU.
    """

    def __init__(self, vectors: nn.Parameter, lr: float, *settings: Any, **named: Any):
        super().__init__(vectors, lr, *settings, **named)
        # Owns the compiled library's object and frees it; its own parameter list is never stepped.
        self._adam = DeepSpeedCPUAdam([nn.Parameter(torch.zeros(1))], adamw_mode=True)

    def _advance(self, p: Tensor, grad: Tensor, group: dict, mean: Tensor, square: Tensor) -> None:
        if p.device.type != "cpu":
            raise RuntimeError(f"the bank is on {p.device}; DeepSpeedCPUAdam needs offload_optimizer to the CPU")
        flat = [tensor.view(-1) for tensor in (p, grad, mean, square)]
        start, (beta1, beta2) = self._start_of(p), group["betas"]
        for low, high in pairwise(self._cuts(start, p.numel())):
            age = int(self.ages[min((start + low) // self.d_model, len(self.ages) - 1)])
            self._adam.ds_opt_adam.adam_update(
                self._adam.opt_id, age, group["lr"], beta1, beta2, group["eps"], group["weight_decay"], True,
                *(tensor[low:high] for tensor in flat),
            )  # fmt: skip

    def _cuts(self, start: int, n: int) -> list[int]:
        """Positions where the age changes among the n elements from `start` of the flattened bank, and 0 and n."""
        rows = (self.ages[1:] != self.ages[:-1]).nonzero().flatten().add_(1)
        inside = rows * self.d_model - start
        return [0, *inside[(inside > 0) & (inside < n)].tolist(), n]
