"""Contrast pairs that a random model gets right, and mean scores with noise of known size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from foresight.scoring.probes import Batch, ContrastProbe
from support.scoring_cases import logits_of
from support.tiny import tokens


def plain_batch(lengths: tuple[int, ...], seed: int = 0) -> Batch:
    """Right-padded pairs that differ at position 1, with arbitrary answers."""
    length = max(lengths)
    clean = tokens(len(lengths), length, seed)
    mask = (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
    corrupted = clean.clone()
    corrupted[:, 1] = (clean[:, 1] + 20) % 60 + 3
    targets = torch.full_like(clean, -100)
    targets[torch.arange(len(lengths)), mask.sum(1) - 1] = tokens(len(lengths), 1, seed + 1)[:, 0]
    return Batch(clean * mask, mask, targets, corrupted * mask, tokens(len(lengths), 1, seed + 2)[:, 0])


@torch.no_grad()
def learned_probe(model, against=None, batch_size: int = 4) -> ContrastProbe:
    """Pairs whose answer (wrong answer) is the token whose logit corruption lowers (raises) most.

    With another model `against`, its clean run takes the place of the corrupted one.
    """
    lengths = (8, 6, 8, 7, 8, 6)
    batch = plain_batch(lengths)
    last = batch.attention_mask.sum(1) - 1
    rows = torch.arange(len(batch))
    whole = replace(batch, targets=batch.input_ids)  # logits of every position
    worse = logits_of(against, whole) if against else logits_of(model, whole, corrupted=True)
    gain = (logits_of(model, whole) - worse)[rows, last]
    batch.targets[rows, last] = gain.argmax(-1)
    batch = replace(batch, wrong=gain.argmin(-1))
    return ContrastProbe(batch.rows(slice(i, i + batch_size)) for i in range(0, len(batch), batch_size))


def noisy(truth: np.ndarray, examples: int = 32, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """Samples [examples, n] around the true scores [n]."""
    truth = np.asarray(truth, np.float64)
    return truth + noise * np.random.default_rng(seed).normal(size=(examples, len(truth)))
