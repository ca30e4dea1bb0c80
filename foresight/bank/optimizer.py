"""AdamW with an age per vector: bias correction counts the steps of each vector, not those of the run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")


class BankAdamW(torch.optim.Optimizer):
    """Decoupled-weight-decay Adam (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2) over the rows of a bank.

    With one shared step count, a vector whose moments are reset at step t would be corrected by 1 - beta^t ~ 1 and
    take a first step of about 3 learning rates; here each row's own age is used. Rows that never change place get
    exactly torch.optim.AdamW's update. Decay shrinks the bank, i.e. pulls towards the weights before training.

    State of the parameter [n, d]: exp_avg and exp_avg_sq, float32 and shaped like it. When DeepSpeed shards, the
    parameter in the optimizer is one rank's flat piece of the bank (the last one padded), and the state likewise.

    Attributes:
        ages: float32 [n], optimizer steps since each row of the whole bank entered; the same on every rank.
        d_model: length of a row.
        rank: which of the equal consecutive pieces of the flattened bank is this process's, when it is sharded.
        pending: moments [n, d] by key that the first step starts from (a resumed run's); consumed by it.
        started: whether a step has been taken, so that the moments are in `state`.
    """

    def __init__(
        self,
        vectors: nn.Parameter,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.ages = torch.zeros(vectors.shape[0], device=vectors.device)
        self.rank, self.d_model, self.started = 0, vectors.shape[1], False
        self.pending: dict[str, Tensor] = {}
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
                    self.ages += 1
                    self.started = True
                    self._update(p, p.grad, group)
        return loss

    def _update(self, p: Tensor, grad: Tensor, group: dict) -> None:
        state = self.state[p]
        if not state:
            state.update({key: self._piece(self.pending.pop(key, None), p) for key in MOMENTS})
        self._advance(p, grad, group, state["exp_avg"], state["exp_avg_sq"])

    def _advance(self, p: Tensor, grad: Tensor, group: dict, mean: Tensor, square: Tensor) -> None:
        beta1, beta2 = group["betas"]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        mean.lerp_(grad, 1 - beta1)
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        one, two = (self._by_element(1 - beta**self.ages, p) for beta in (beta1, beta2))
        denominator = square.sqrt().div_(two.sqrt_()).add_(group["eps"])
        del two
        p.addcdiv_(mean / one, denominator, value=-group["lr"])

    def _by_element(self, by_row: Tensor, p: Tensor) -> Tensor:
        """Per-row numbers [n], shaped to broadcast over the parameter: [n, 1] for a whole bank; one per element for a
        flat piece, whose padding gets the last row's number.
        """
        if p.dim() == 2:
            return by_row[:, None]
        first, offset = divmod(self._start_of(p), self.d_model)
        rows = torch.arange(first, first + (offset + len(p) - 1) // self.d_model + 1, device=by_row.device)
        found = by_row[rows.clamp_(max=len(by_row) - 1)].to(p.device)
        return found.repeat_interleave(self.d_model)[offset : offset + len(p)]

    def _start_of(self, p: Tensor) -> int:
        """Position in the flattened bank of the parameter's first element."""
        return 0 if p.dim() == 2 else self.rank * len(p)

    def _piece(self, whole: Tensor | None, p: Tensor) -> Tensor:
        """The parameter's piece of a tensor [n, d]; zeros for None."""
        piece = torch.zeros_like(p)
        if whole is not None and p.dim() == 2:
            piece.copy_(whole)
        elif whole is not None:
            start = self._start_of(p)
            mine = whole.flatten()[start : start + len(p)]
            piece[: len(mine)].copy_(mine)
        return piece
