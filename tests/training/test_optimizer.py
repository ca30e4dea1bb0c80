"""BankAdamW: torch's AdamW for rows that never change place, own bias correction for those that do."""

import pytest
import torch
from torch import nn

from foresight.training.optimizer import BankAdamW


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_equals_torch_adamw(decay):
    ours, theirs = (nn.Parameter(torch.randn(6, 4, generator=torch.Generator().manual_seed(0))) for _ in range(2))
    settings = dict(lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=decay)
    optimizers = BankAdamW(ours, **settings), torch.optim.AdamW([theirs], **settings)
    for step in range(20):
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = torch.randn(6, 4, generator=torch.Generator().manual_seed(step + 1))
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_rows_have_ages_of_their_own():
    p = nn.Parameter(torch.zeros(2, 3))
    optimizer = BankAdamW(p, lr=0.1)
    for step in range(10):
        p.grad = torch.ones(2, 3)
        optimizer.step()
        if step == 7:
            for value in optimizer.state[p].values():
                value[1] = 0
    assert optimizer.state[p]["age"].flatten().tolist() == [10, 2]
    assert torch.allclose(p[0], torch.full((3,), -1.0)) and torch.allclose(p[1], p[0], atol=1e-6)


def test_without_gradient_nothing_happens():
    p = nn.Parameter(torch.ones(2, 3))
    BankAdamW(p, lr=0.1, weight_decay=0.5).step()
    assert torch.equal(p, torch.ones(2, 3))
