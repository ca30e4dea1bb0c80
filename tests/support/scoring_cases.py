"""Small probes for the tests of scores: random tokens, so that any tiny model will do."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from foresight.scoring.probes import Batch, ContrastProbe, TextProbe
from support.tiny import tokens


def pair_batch(lengths: Sequence[int], seed: int = 0, changed: Sequence[int] = (2, 4)) -> Batch:
    """Right-padded contrast pairs of the given lengths that differ at the positions `changed`."""
    length = max(lengths)
    clean, answers = tokens(len(lengths), length, seed), tokens(len(lengths), 2, seed + 1)
    mask = (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
    corrupted = clean.clone()
    corrupted[:, list(changed)] = (clean[:, list(changed)] + 20) % 60 + 3
    targets = torch.full_like(clean, -100)
    targets[torch.arange(len(lengths)), mask.sum(1) - 1] = answers[:, 0]
    return Batch(clean * mask, mask, targets, corrupted * mask, answers[:, 1] % 60 + 3)


def pair_probe(lengths: Sequence[int] = (9, 9, 9, 9), batch_size: int | None = None, **settings) -> ContrastProbe:
    batch = pair_batch(lengths, **settings)
    size = batch_size or len(batch)
    return ContrastProbe(batch.rows(slice(i, i + size)) for i in range(0, len(batch), size))


def text_probe(lengths: Sequence[int] = (9, 7, 5, 8), batch_size: int = 2, seed: int = 0) -> TextProbe:
    """Text with labels on everything but the first three tokens."""
    rows = [ids[:n].tolist() for ids, n in zip(tokens(len(lengths), max(lengths), seed), lengths, strict=True)]
    return TextProbe.from_dataset([{"input_ids": r, "labels": [-100] * 3 + r[3:]} for r in rows], batch_size)
