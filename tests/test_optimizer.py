"""BankAdamW: torch's AdamW for rows that never change place, own bias correction for those that do."""

import pytest
import torch
from torch import nn

from foresight.optimizer import BankAdamW


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
            for value in (optimizer.ages, *optimizer.state[p].values()):
                value[1] = 0
    assert optimizer.ages.tolist() == [10, 2]
    assert torch.allclose(p[0], torch.full((3,), -1.0)) and torch.allclose(p[1], p[0], atol=1e-6)


def test_without_gradient_nothing_happens():
    p = nn.Parameter(torch.ones(2, 3))
    BankAdamW(p, lr=0.1, weight_decay=0.5).step()
    assert torch.equal(p, torch.ones(2, 3))


@pytest.mark.parametrize("world", [2, 3])
def test_flat_pieces_equal_the_whole(world):
    """What DeepSpeed does: each rank updates a flat piece of the bank, the last one padded."""
    generator = torch.Generator().manual_seed(0)
    start, ages = torch.randn(5, 4, generator=generator), torch.tensor([0.0, 7, 3, 0, 90])
    whole = nn.Parameter(start.clone())
    size = -(-start.numel() // world)
    flat = torch.cat([start.flatten(), torch.zeros(size * world - start.numel())])
    pieces = [nn.Parameter(piece.clone()) for piece in flat.split(size)]
    optimizers = [BankAdamW(nn.Parameter(start.clone()), lr=0.1, weight_decay=0.1) for _ in range(world + 1)]
    optimizers[-1].param_groups[0]["params"] = [whole]
    for rank, piece in enumerate(pieces):
        optimizers[rank].param_groups[0]["params"] = [piece]
        optimizers[rank].rank = rank
    for optimizer in optimizers:
        optimizer.ages = ages.clone()
    for _ in range(4):
        whole.grad = torch.randn(5, 4, generator=generator)
        grads = torch.cat([whole.grad.flatten(), torch.zeros(size * world - start.numel())]).split(size)
        for piece, grad in zip(pieces, grads, strict=True):
            piece.grad = grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(torch.cat([p.detach() for p in pieces])[: start.numel()].view(5, 4), whole)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_cpu_kernel_equals_torch_whatever_the_ages(world):
    from foresight.training.cpu_adam import BankCPUAdam

    generator = torch.Generator().manual_seed(0)
    start, ages = torch.randn(9, 7, generator=generator), torch.tensor([0.0, 0, 5, 5, 1, 0, 0, 0, 9])
    whole = nn.Parameter(start.clone())
    settings = dict(lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    reference = BankAdamW(whole, **settings)
    size = -(-start.numel() // world)
    flat = torch.cat([start.flatten(), torch.zeros(size * world - start.numel())])
    pieces = [nn.Parameter(piece.clone()) for piece in flat.split(size)]
    kernels = [BankCPUAdam(nn.Parameter(start.clone()), **settings) for _ in pieces]
    for rank, (piece, kernel) in enumerate(zip(pieces, kernels, strict=True)):
        kernel.param_groups[0]["params"], kernel.rank = [piece], rank
    for optimizer in (reference, *kernels):
        optimizer.ages = ages.clone()
    for _ in range(20):
        whole.grad = torch.randn(9, 7, generator=generator)
        grads = torch.cat([whole.grad.flatten(), torch.zeros(size * world - start.numel())]).split(size)
        for piece, grad in zip(pieces, grads, strict=True):
            piece.grad = grad.clone()
        for optimizer in (reference, *kernels):
            optimizer.step()
    found = torch.cat([p.detach() for p in pieces])[: start.numel()].view(9, 7)
    assert torch.allclose(found, whole, atol=5e-6) and torch.equal(kernels[0].ages, reference.ages)
