"""AdamW with an age per vector: bias correction counts the steps of each vector, not those of the run."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BankAdamW(torch.optim.Optimizer):
    """Decoupled-weight-decay Adam (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2) over the rows of a bank.

    With one shared step count, a vector whose moments are reset at step t would be corrected by 1 - beta^t ~ 1 and
    take a first step of about 3 learning rates; here each row's own `age` is used. Rows that never change place get
    exactly torch.optim.AdamW's update. Decay shrinks the bank, i.e. pulls towards the weights before training.

    State of the parameter [n, d], all float32: exp_avg [n, d], exp_avg_sq [n, d], age [n, 1].
    """

    def __init__(
        self,
        vectors: nn.Parameter,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__([vectors], dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every row; a parameter without a gradient is left alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)
        return loss

    def _update(self, p: Tensor, grad: Tensor, group: dict) -> None:
        state = self.state[p]
        if not state:
            state.update(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p), age=p.new_zeros(len(p), 1))
        beta1, beta2 = group["betas"]
        age, mean, square = state["age"], state["exp_avg"], state["exp_avg_sq"]
        age += 1
        p.mul_(1 - group["lr"] * group["weight_decay"])
        mean.lerp_(grad, 1 - beta1)
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        denominator = square.sqrt().div_((1 - beta2**age).sqrt()).add_(group["eps"])
        p.addcdiv_(mean / (1 - beta1**age), denominator, value=-group["lr"])
