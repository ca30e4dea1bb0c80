"""Maps: what they keep of a movement, the movements and masks drawn from them, and what each is worth for a run."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from foresight.common.errors import DataError
from foresight.forecasters.single_weights import margins, mixing
from foresight.forecasters.single_weights.margins import SHAPE, Map, Margins, draws, read_map, write_map
from foresight.forecasters.single_weights.mixing import Moved, forecast, own_map, worth
from foresight.masks.weight_selection import best_weights
from foresight.model.numbering import Target
from support.weight_cases import squared

SHAPES = {"a": (40, 60), "b": (30, 80)}
OFFSETS = {"a": 0, "b": 2400}
N = 300


def random_map(seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    rates = lambda n: (spread * torch.randn(n, generator=generator)).exp()  # noqa: E731
    return Map({module: Margins(rates(rows), rates(columns)) for module, (rows, columns) in SHAPES.items()})


def movement(of, seed):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(SHAPES[m], generator=generator) * squared(one).sqrt() for m, one in of.margins.items()}


def with_farthest(moved, n):
    """A map of a movement that knows its n farthest weights."""
    least = float(torch.cat([x.abs().flatten() for x in moved.values()]).topk(n).values.min())
    known = {m: (x.abs().flatten() >= least).nonzero().flatten() for m, x in moved.items()}
    return Map(
        {m: Margins.of(x) for m, x in moved.items()},
        {m: (at, moved[m].abs().flatten()[at]) for m, at in known.items()},
        least,
    )


def mask(*maps, seed=0, n=N):
    drawn = draws([(1 / len(maps), one) for one in maps], list(OFFSETS.items()), seed)
    targets = {m: Target(m, "entry", rows * columns, OFFSETS[m]) for m, (rows, columns) in SHAPES.items()}
    return best_weights(((targets[m], found) for m, found in drawn), n)


def shared(one, other):
    return len(np.intersect1d(one.components, other.components)) / len(one)


def sample(moved, share, seed=0):
    """How far a random share of the weights has moved."""
    found, rng = {}, np.random.default_rng(seed)
    for module, distance in moved.items():
        at = torch.from_numpy(rng.permutation(distance.numel())[: int(share * distance.numel())])
        shape = SHAPES[module]
        found[module] = Moved(shape, at // shape[1], at % shape[1], distance.flatten()[at])
    return found


def test_margins_are_the_scales_that_a_movement_was_drawn_with():
    wide = Map({"a": Margins(torch.tensor([1.0, 4.0, 9.0]), torch.full((20_000,), 1.0))})
    ((_, drawn),) = draws([(1.0, wide)], [("a", 0)], 0)
    assert Margins.of(drawn.exp()).rows.tolist() == pytest.approx([1, 4, 9], rel=0.03)
    at = torch.arange(drawn.numel())
    sampled = Margins.of_sample(drawn.exp().flatten(), at // 20_000, at % 20_000, (3, 20_000))
    assert (sampled.rows / sampled.rows.mean()).tolist() == pytest.approx([1 / 4.67, 4 / 4.67, 9 / 4.67], rel=0.2)


def test_a_matrix_that_has_not_moved_has_hardly_a_chance_and_no_error():
    still, moved = Margins.of(torch.zeros(40, 60)), Margins.of(movement(random_map(0), 1)["b"])
    assert not still.rows.any()
    assert (mask(Map({"a": still, "b": moved}), n=100).components >= OFFSETS["b"]).all()


def test_a_sample_tells_of_the_whole_and_is_drawn_to_the_mean_where_it_is_small():
    moved = movement(random_map(1), 2)["a"]
    at = torch.arange(moved.numel())
    everything = Margins.of_sample(moved.flatten(), at // 60, at % 60, SHAPES["a"])
    assert torch.corrcoef(torch.stack([everything.rows.log(), Margins.of(moved).rows.log()]))[0, 1] > 0.8
    one = Margins.of_sample(torch.tensor([5.0]), torch.tensor([3]), torch.tensor([7]), SHAPES["a"])
    others = np.delete(one.rows.numpy(), 3)
    assert (others == others[0]).all() and one.rows[3] >= others[0]
    nothing = Margins.of_sample(torch.zeros(0), torch.zeros(0).long(), torch.zeros(0).long(), SHAPES["a"])
    assert not nothing.rows.any()


def test_weights_are_drawn_as_often_as_the_distribution_says():
    maps = random_map(3)
    scales = torch.cat([squared(one).sqrt().flatten() for one in maps.margins.values()]).double()
    low, high = 0.0, 100.0
    for _ in range(60):  # the distance that N weights are expected to exceed
        middle = (low + high) / 2
        low, high = (middle, high) if float((-((middle / scales) ** SHAPE)).exp().sum()) > N else (low, middle)
    expected = (-((low / scales) ** SHAPE)).exp()[:2400].view(40, 60).sum(1)
    counts = torch.zeros(40)
    for seed in range(60):
        chosen = mask(maps, seed=seed).components
        assert len(chosen) == N and (np.diff(chosen) > 0).all()
        counts += torch.bincount(torch.from_numpy(chosen[chosen < 2400]) // 60, minlength=40) / 60
    assert torch.corrcoef(torch.stack([counts, expected]))[0, 1] > 0.97
    assert float((counts - expected).abs().mean()) < 0.2 * float(expected.mean())


def test_a_mask_repeats_and_changes_only_as_far_as_its_map_does():
    maps = random_map(4)
    near = Map({
        m: Margins(one.rows * 1.05 ** torch.arange(len(one.rows)).remainder(2), one.columns)
        for m, one in maps.margins.items()
    })  # fmt: skip
    first = mask(maps)
    assert first == mask(maps)
    assert shared(first, mask(near)) > 0.9 > 0.5 > shared(first, mask(random_map(5)))
    assert shared(first, mask(maps, seed=1)) < 0.5


def test_known_weights_come_first_and_in_their_order():
    moved = movement(random_map(6), 7)
    known, farthest = with_farthest(moved, N), torch.cat([x.abs().flatten() for x in moved.values()])
    for n in (50, N):
        assert set(mask(known, n=n).components) == set(farthest.topk(n).indices.tolist())
    beyond = mask(known, n=2 * N)  # the others are drawn, and none is thought to have moved farther
    assert shared(mask(known), beyond) == 1 and shared(beyond, mask(known, seed=1, n=2 * N)) < 1
    drawn = torch.cat([logs.flatten() for _, logs in draws([(1.0, known)], list(OFFSETS.items()), 0)])
    others = np.setdiff1d(np.arange(len(drawn)), mask(known).components)
    assert float(drawn[others].max()) <= math.log(known.least) + 1e-4


def test_a_mixture_lies_between_its_maps_whatever_their_scales():
    one, other = (with_farthest(movement(random_map(seed), seed), N) for seed in (6, 7))
    larger = with_farthest({m: 100 * x for m, x in movement(random_map(7), 7).items()}, N)
    both = mask(one, other)
    assert both == mask(one, larger)
    assert all(shared(mask(one), mask(other)) < shared(mask(alone), both) < 0.9 for alone in (one, other))


def test_no_map_rules_out_a_row_that_it_has_not_seen_move():
    blind = Map({m: Margins(torch.ones(rows).index_fill_(0, torch.tensor([0]), 0.0), torch.ones(columns))
                 for m, (rows, columns) in SHAPES.items()})  # fmt: skip
    (_, drawn), _ = draws([(1.0, blind)], list(OFFSETS.items()), 0)
    assert float(drawn[0].mean() - drawn[1:].mean()) == pytest.approx(math.log(margins.FLOOR) / 2, abs=0.5)


def test_the_map_that_moves_like_the_run_is_worth_most():
    maps = [random_map(seed) for seed in range(3)]
    moved = sample(movement(maps[1], 8), 0.05)
    shares = worth(moved, maps)
    assert shares.sum() == pytest.approx(1) and shares.min() >= 0 and shares.argmax() == 1 and shares[1] > 0.8


def test_the_own_map_counts_where_no_other_is_like_the_run():
    truth, other = random_map(9), random_map(10)
    moved = sample(movement(truth, 11), 0.3)
    found = forecast(moved, [other])
    assert [one for _, one in found][0] is other and found[1][0] > 0.8
    own = found[1][1].margins["a"]
    assert torch.corrcoef(torch.stack([own.rows.log(), truth.margins["a"].rows.log()]))[0, 1] > 0.7
    ((share, alone),) = forecast(moved, [])
    assert share == 1 and torch.equal(alone.margins["a"].rows, own_map(moved).margins["a"].rows)


def test_a_matrix_that_the_run_has_no_weight_of_is_an_average_one(monkeypatch):
    moved = sample(movement(random_map(9), 11), 0.3)
    none = torch.zeros(0, dtype=torch.int64)
    moved["b"] = Moved(SHAPES["b"], none, none, torch.zeros(0))
    monkeypatch.setattr(mixing, "OWN_POWER", 1.0)
    own = own_map(moved)
    mean = {module: float(squared(own.margins[module]).mean()) for module in SHAPES}
    assert mean["b"] == pytest.approx(mean["a"], rel=0.4)
    assert len(forecast(moved, [random_map(1)])) == 2


def test_nothing_is_known_of_maps_by_a_run_that_has_not_moved():
    still = {module: Moved(SHAPES[module], *(torch.arange(5) for _ in "rc"), torch.zeros(5)) for module in SHAPES}
    assert worth(still, [random_map(0), random_map(1)]) == pytest.approx([0.5, 0.5])


def test_a_map_on_disk_is_what_it_was_and_nothing_else_is_read(tmp_path):
    for made in (random_map(12), with_farthest(movement(random_map(12), 1), N)):
        write_map(tmp_path / "one.safetensors", made, {"source": "a run"})
        found = read_map(tmp_path / "one.safetensors")
        assert found.margins.keys() == made.margins.keys() and found.least == made.least and mask(found) == mask(made)
    (tmp_path / "no.safetensors").write_bytes(b"no map")
    with pytest.raises(DataError, match="no.safetensors"):
        read_map(tmp_path / "no.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="foresight maps"):
        read_map(tmp_path / "other.safetensors")
