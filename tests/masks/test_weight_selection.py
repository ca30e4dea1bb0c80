"""Choosing single weights: the best of all matrices, ties by id, and random ones."""

import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, NonFiniteError
from foresight.masks.weight_selection import Best, random_places

LOTS = 1000


def drawn(values, generator):
    """Scores with many ties, few, or of both signs with zeros and infinities among them."""
    scores = torch.randint(values, (LOTS,), generator=generator).float()
    if values % 2:
        scores = scores - values // 2
        scores[::97], scores[5::89] = torch.inf, -torch.inf
        scores[scores == 0] = torch.where(torch.rand(int((scores == 0).sum()), generator=generator) < 0.5, 0.0, -0.0)
    return scores


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("values", [2, 3, 8, 41, 10**6])
def test_best_is_the_plain_choice_whatever_the_order_and_ties_go_to_the_lowest_ids(seed, values):
    generator = torch.Generator().manual_seed(seed)
    scores = drawn(values, generator)
    for n in (1, 90, 500, LOTS):
        plain = np.sort(np.lexsort((np.arange(LOTS), -scores.numpy()))[:n])
        for cuts in (torch.arange(LOTS).split(130), torch.randperm(LOTS, generator=generator).split(7)):
            best = Best(n)
            for ids in cuts:
                best.add(ids, scores[ids])
            assert np.array_equal(best.mask().components, plain)
            ids, values_of = best.found()
            assert len(ids) == n and torch.equal(values_of, scores[ids])


def test_best_refuses_nan_and_too_few():
    best = Best(3)
    with pytest.raises(NonFiniteError, match="1 scores of weights are NaN"):
        best.add(torch.arange(2), torch.tensor([1.0, torch.nan]))
    best.add(torch.arange(2), torch.ones(2))
    with pytest.raises(ConfigError, match="3 weights were asked for and 2 scored"):
        best.mask()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5])
def test_random_places_draw_every_set_alike(n):
    rng, counts, draws = np.random.default_rng(n), {}, 6000
    for _ in range(draws):
        found = random_places(5, n, rng)
        assert found.dtype == np.int64 and len(found) == n and (np.diff(found) > 0).all()
        counts[tuple(found)] = counts.get(tuple(found), 0) + 1
    sets = {0: 1, 1: 5, 2: 10, 3: 10, 4: 5, 5: 1}[n]
    assert len(counts) == sets and all(abs(c - draws / sets) < 6 * (draws / sets) ** 0.5 for c in counts.values())


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 1.0])
def test_random_places_are_of_the_seed(share):
    first, again, other = (random_places(10**5, int(share * 10**5), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and len(first) == share * 10**5
    assert first[0] >= 0 and first[-1] < 10**5 and (share == 1 or not np.array_equal(first, other))
