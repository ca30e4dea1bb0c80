"""What a probe measures, always as a *goodness*: higher is better, so that one sign convention holds for all metrics.

A component's score is the goodness of the clean run minus that of the run without the component. A positive score
means that the component supports the behaviour, whatever the metric.

Logits are as large as the vocabulary: they are computed from the last hidden states in chunks of tokens, by the model's
own code, and dropped. Where gradients are wanted, those at the hidden states are taken at once, chunk by chunk, as
fused losses do: nothing is computed twice.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .probes import Batch

METRICS = ("logit_difference", "loss", "kl")
CHUNK = 2**25
"""Logits that are computed at a time. Loss and gradient take up to 16 bytes for each: half a GiB."""


def goodness(metric: str, model: nn.Module, hidden: Tensor, batch: Batch, clean: Tensor | None = None) -> Tensor:
    """Mean goodness over each example's labelled positions: float32 [B], with a graph if `hidden` has one.

    Args:
        metric: ``logit_difference``, logit of the answer minus logit of the wrong answer; ``loss``, log probability
            of the target in nats; ``kl``, minus KL(clean run || this run) of the next-token distributions in nats.
        hidden: [M, d_model], the run's `hidden_of` the batch.
        clean: as `hidden`, of the clean run; for ``kl`` only.
    """
    by_token = _by_token(metric, model, hidden, batch, clean)
    labelled = batch.targets >= 0
    return by_token.new_zeros(labelled.shape).index_put(batch.labelled, by_token).sum(1) / labelled.sum(1)


def batch_loss(model: nn.Module, hidden: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy in nats averaged over all labelled positions of the batch, as in SFT: a float32 scalar."""
    return -_by_token("loss", model, hidden, batch).mean()


def _by_token(metric: str, model: nn.Module, hidden: Tensor, batch: Batch, clean: Tensor | None = None) -> Tensor:
    """Goodness of each labelled token: float32 [M]."""
    rows, positions = batch.labelled
    targets, wrong = batch.targets[rows, positions], None if batch.wrong is None else batch.wrong[rows]
    n, head, graph = _chunks(model, len(hidden)), head_of(model), torch.is_grad_enabled() and hidden.requires_grad
    parts = [[None] * n if t is None else t.tensor_split(n) for t in (hidden.detach(), targets, wrong, clean)]
    values, gradients = [], []
    for states, target, other, before in zip(*parts, strict=True):
        with torch.set_grad_enabled(graph):
            states.requires_grad_(graph)
            value = _of_logits(metric, head(states), target, other, head(before.detach()) if metric == "kl" else None)
        if graph:
            gradients += torch.autograd.grad(value.sum(), states)
        values.append(value.detach())
    return _Known.apply(hidden, torch.cat(values), torch.cat(gradients)) if graph else torch.cat(values)


def _of_logits(metric: str, logits: Tensor, targets: Tensor, wrong: Tensor | None, clean: Tensor | None) -> Tensor:
    """Goodness from logits [k, vocabulary] of any float dtype: float32 [k]."""
    logits = logits.float()
    if metric == "loss":
        return -F.cross_entropy(logits, targets, reduction="none")
    if metric == "kl":
        assert clean is not None
        clean = clean.detach().float().log_softmax(-1)
        return -(clean.exp() * (clean - logits.log_softmax(-1))).sum(-1)
    assert wrong is not None
    answer, other = (logits.gather(-1, tokens[:, None])[:, 0] for tokens in (targets, wrong))
    return answer - other


class _Known(torch.autograd.Function):
    """Values [M] of rows of `hidden` [M, d_model] whose gradients, as `hidden`, are known already."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, values: Tensor, gradients: Tensor) -> Tensor:
        ctx.save_for_backward(gradients)
        return values

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return (outer[:, None] * gradients.float()).to(gradients.dtype), None, None


def head_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """What makes logits [k, vocabulary] of last hidden states [k, d_model], scaled and capped as the model does it.

    It is the model's own forward pass, of a shallow copy whose layers hand on the embeddings that they are given.
    """
    from ..model.architectures import tower_of  # imports transformers

    shell, name = copy.copy(model), tower_of(model).partition(".")[0]
    shell._modules = {**model._modules, name: _Through(model.get_submodule(name))}
    weight = model.get_output_embeddings().weight

    def head(hidden: Tensor) -> Tensor:
        # Trainers replace `model.forward` by functions that run the whole model, in mixed precision or not.
        mixed = hidden.dtype != weight.dtype
        with torch.autocast(hidden.device.type, hidden.dtype if mixed else None, enabled=mixed):
            return type(model).forward(shell, inputs_embeds=hidden[None], use_cache=False).logits[0]

    return head


class _Through(nn.Module):
    def __init__(self, base: nn.Module):
        super().__init__()
        object.__setattr__(self, "base", base)

    def __getattr__(self, name: str) -> Any:
        # Some models call the decoder of their base model, and some read a factor from it.
        return self if name == "decoder" else getattr(self.base, name)

    def forward(self, *args: Any, inputs_embeds: Tensor, **others: Any) -> _Result:
        return _Result(inputs_embeds)


class _Result:
    """Stands for the output of a model's layers: it has the hidden states, and None for anything else."""

    def __init__(self, hidden: Tensor):
        self.last_hidden_state = hidden

    def __getitem__(self, at: int) -> Tensor:
        assert at == 0
        return self.last_hidden_state

    def __getattr__(self, name: str) -> None:
        return None


def _chunks(model: nn.Module, tokens: int) -> int:
    """How many chunks to take; for weights that ZeRO 3 has sharded, as many as every other process.

    It gathers the head's weight for every chunk, which all processes have to do together.
    """
    n = max(1, math.ceil(tokens * model.config.get_text_config().vocab_size / CHUNK))
    if not hasattr(model.get_output_embeddings().weight, "ds_id"):
        return n
    most = torch.tensor(n, device=model.device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return int(most)
