"""What a probe measures, always as a *goodness*: higher is better, so that one sign convention holds for all metrics.

A component's score is the goodness of the clean run minus that of the run without the component. A positive score
means that the component supports the behaviour, whatever the metric.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .probes import Batch

METRICS = ("logit_difference", "loss", "kl")


def goodness_by_position(metric: str, logits: Tensor, batch: Batch, clean_logits: Tensor | None = None) -> Tensor:
    """Goodness at each labelled position, 0 at the others.

    Args:
        metric: ``logit_difference``, logit of the answer minus logit of the wrong answer; ``loss``, log probability
            of the target in nats; ``kl``, minus KL(clean run || this run) of the next-token distributions in nats.
        logits: [B, K, vocabulary] at `batch.positions`, any float dtype.
        clean_logits: as `logits`, without a graph; for ``kl`` only.

    Returns:
        float32 [B, K].
    """
    logits = logits.float()
    targets = batch.targets[:, batch.positions]
    labelled = targets >= 0
    if metric == "loss":
        return -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    if metric == "kl":
        assert clean_logits is not None
        clean = clean_logits.float().log_softmax(-1)
        return -(clean.exp() * (clean - logits.log_softmax(-1))).sum(-1) * labelled
    assert batch.wrong is not None
    answer = logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    wrong = logits.gather(-1, batch.wrong[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]
    return (answer - wrong) * labelled


def goodness(metric: str, logits: Tensor, batch: Batch, clean_logits: Tensor | None = None) -> Tensor:
    """Mean goodness over each example's labelled positions: float32 [B]."""
    return goodness_by_position(metric, logits, batch, clean_logits).sum(1) / (batch.targets >= 0).sum(1)


def batch_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy in nats averaged over all labelled positions of the batch, as in SFT: a float32 scalar."""
    return -goodness_by_position("loss", logits, batch).sum() / torch.count_nonzero(batch.targets >= 0)
