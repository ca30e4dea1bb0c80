"""BankAdamW: torch's AdamW for rows that never change place, own bias correction for those that do."""

import pytest
import torch
from torch import nn

from foresight.bank.optimizer import BankAdamW


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


def by_whole_and_by_pieces(kind, world, start, ages, steps, **settings):
    """The bank after steps of BankAdamW, whole, and after as many of `kind` by rank, each on a flat piece, the last one
    padded, as DeepSpeed does it; and the optimizers.
    """
    whole = nn.Parameter(start.clone())
    reference = BankAdamW(whole, **settings)
    size = -(-start.numel() // world)

    def flat(tensor):
        return torch.cat([tensor.flatten(), torch.zeros(size * world - start.numel())]).split(size)

    pieces = [nn.Parameter(piece.clone()) for piece in flat(start)]
    optimizers = [kind(nn.Parameter(start.clone()), **settings) for _ in pieces]
    for rank, (piece, optimizer) in enumerate(zip(pieces, optimizers, strict=True)):
        optimizer.param_groups[0]["params"], optimizer.rank = [piece], rank
    generator = torch.Generator().manual_seed(0)
    for optimizer in (reference, *optimizers):
        optimizer.ages = ages.clone()
    for _ in range(steps):
        whole.grad = torch.randn(start.shape, generator=generator)
        for piece, grad in zip(pieces, flat(whole.grad), strict=True):
            piece.grad = grad.clone()
        for optimizer in (reference, *optimizers):
            optimizer.step()
    found = torch.cat([p.detach() for p in pieces])[: start.numel()].view(start.shape)
    return whole, found, reference, optimizers


@pytest.mark.parametrize("world", [2, 3])
def test_flat_pieces_equal_the_whole(world):
    start, ages = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0.0, 7, 3, 0, 90])
    whole, found, *_ = by_whole_and_by_pieces(BankAdamW, world, start, ages, 4, lr=0.1, weight_decay=0.1)
    assert torch.equal(found, whole)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_cpu_kernel_equals_torch_whatever_the_ages(world):
    import support.processes  # noqa: F401  # it says how the kernel is compiled
    from foresight.bank.zero import BankCPUAdam

    start = torch.randn(9, 7, generator=torch.Generator().manual_seed(1))
    ages = torch.tensor([0.0, 0, 5, 5, 1, 0, 0, 0, 9])
    settings = dict(lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    whole, found, reference, kernels = by_whole_and_by_pieces(BankCPUAdam, world, start, ages, 20, **settings)
    assert torch.allclose(found, whole, atol=5e-6) and torch.equal(kernels[0].ages, reference.ages)
