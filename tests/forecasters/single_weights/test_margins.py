"""Maps of margins: what they keep of a movement, the masks drawn from them, and their mixtures."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from foresight.common.errors import DataError
from foresight.forecasters.single_weights import margins
from foresight.forecasters.single_weights.margins import Chances, Margins, draws, mix, read_map, write_map
from foresight.forecasters.single_weights.mixing import Moved, forecast, own_map, worth
from foresight.masks.weight_selection import best_weights
from foresight.model.numbering import Target

SHAPES = {"a": (40, 60), "b": (30, 80)}
OFFSETS = {"a": 0, "b": 2400}
N = 300


def random_map(seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    rates = lambda n: (spread * torch.randn(n, generator=generator)).exp()  # noqa: E731
    return {module: Margins(rates(rows), rates(columns)) for module, (rows, columns) in SHAPES.items()}


def movement(maps, seed):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(SHAPES[m], generator=generator) * one.squared().sqrt() for m, one in maps.items()}


def mask(maps, seed=0, n=N):
    keys = draws(maps, list(OFFSETS.items()), n, seed)
    targets = {m: Target(m, "entry", rows * columns, OFFSETS[m]) for m, (rows, columns) in SHAPES.items()}
    return best_weights(((targets[m], found) for m, found in keys), n)


def sample(moved, share, seed=0):
    """How far a random share of the weights has moved."""
    found, rng = {}, np.random.default_rng(seed)
    for module, distance in moved.items():
        at = torch.from_numpy(rng.permutation(distance.numel())[: int(share * distance.numel())])
        shape = SHAPES[module]
        found[module] = Moved(shape, at // shape[1], at % shape[1], distance.flatten()[at])
    return found


def test_margins_of_a_factored_movement_are_its_squares():
    rows, columns = torch.tensor([1.0, 4.0]), torch.tensor([0.5, 1.0, 1.5])
    found = Margins.of((rows[:, None] * columns[None, :]).sqrt() * torch.tensor([[1, -1, 1], [-1, 1, 1]]))
    assert torch.allclose(found.squared(), rows[:, None] * columns[None, :])


def test_a_matrix_that_has_not_moved_has_no_chance_and_no_error():
    found = Margins.of(torch.zeros(3, 4))
    assert not found.rows.any()
    moved = Margins.of(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    chances = Chances({"still": found, "moved": moved}, 3)
    assert not chances.of("still").any() and float(chances.of("moved").sum()) == pytest.approx(3, rel=0.02)


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


@pytest.mark.parametrize("n", [20, 300, 2000])
def test_as_many_weights_are_expected_beyond_the_threshold_as_were_asked_for(n):
    maps = random_map(0)
    found = Chances(maps, n)
    assert sum(float(found.of(module).sum()) for module in maps) == pytest.approx(n, rel=0.02)


def test_chances_on_the_grid_are_those_of_the_distribution():
    maps = random_map(2, spread=2.0)
    found = Chances(maps, N)
    scales = torch.linspace(-8, 8, 400_001).double()  # of x, in units of its scale
    density = (-(scales**4)).exp()
    for module, one in maps.items():
        beyond = found.distance / one.squared().sqrt().flatten()[:50].double()
        exact = [float(density[scales.abs() > x].sum() / density.sum()) for x in beyond]
        assert found.of(module).flatten()[:50].tolist() == pytest.approx(exact, rel=0.03, abs=1e-3)


def test_a_mask_has_the_size_and_about_the_counts_that_the_map_expects():
    maps = random_map(3)
    expected = Chances(maps, N).of("a").sum(1)
    counts = torch.zeros(40)
    for seed in range(60):
        chosen = mask(maps, seed).components
        assert len(chosen) == N and (np.diff(chosen) > 0).all()
        own = torch.from_numpy(chosen[chosen < 2400])
        counts += torch.bincount(own // 60, minlength=40) / 60
    assert torch.corrcoef(torch.stack([counts, expected]))[0, 1] > 0.97
    assert float((counts - expected).abs().mean()) < 0.2 * float(expected.mean())


def test_a_mask_repeats_and_changes_only_as_far_as_its_map_does():
    maps = random_map(4)
    near = {
        m: Margins(one.rows * 1.05 ** torch.arange(len(one.rows)).remainder(2), one.columns) for m, one in maps.items()
    }
    first = mask(maps)
    assert first == mask(maps)
    kept = lambda other: len(np.intersect1d(first.components, other.components)) / N  # noqa: E731
    assert kept(mask(near)) > 0.9 > 0.5 > kept(mask(random_map(5))) and kept(mask(maps, seed=1)) < 0.5


def test_a_mixture_lies_between_its_maps_whatever_their_scales():
    one, other = random_map(6), random_map(7)
    larger = {m: Margins(100 * found.rows, found.columns) for m, found in other.items()}
    assert all(torch.allclose(a.rows, b.rows) for a, b in zip(
        mix([(1.0, one), (1.0, other)]).values(), mix([(2.0, one), (2.0, larger)]).values(), strict=True))  # fmt: skip
    alone = mix([(1.0, one)])
    level = {m: found.squared() for m, found in one.items()}
    mean = torch.cat([v.flatten() for v in level.values()]).mean()
    assert torch.allclose(alone["b"].squared(), level["b"] / mean, rtol=1e-3, atol=1e-3)


def test_no_map_rules_out_what_it_has_not_seen_move():
    blind = {m: Margins(torch.ones(rows).index_fill_(0, torch.tensor([0]), 0.0), torch.ones(columns))
             for m, (rows, columns) in SHAPES.items()}  # fmt: skip
    assert mix([(1.0, blind)])["a"].rows[0] == pytest.approx(margins.FLOOR)


def test_the_map_that_moves_like_the_run_is_worth_most():
    maps = [random_map(seed) for seed in range(3)]
    moved = sample(movement(maps[1], 8), 0.05)
    shares = worth(moved, maps)
    assert shares.sum() == pytest.approx(1) and shares.min() >= 0 and shares.argmax() == 1 and shares[1] > 0.8


def test_the_own_map_counts_where_no_other_is_like_the_run():
    truth, other = random_map(9), random_map(10)
    moved = sample(movement(truth, 11), 0.3)
    found, shares = forecast(moved, [other])
    assert shares[-1] > 0.8
    assert torch.corrcoef(torch.stack([found["a"].rows.log(), truth["a"].rows.log()]))[0, 1] > 0.7
    alone, shares = forecast(moved, [])
    assert shares.tolist() == [1] and torch.equal(alone["a"].rows, own_map(moved)["a"].rows)


def test_nothing_is_known_of_maps_by_a_run_that_has_not_moved():
    still = {module: Moved(SHAPES[module], *(torch.arange(5) for _ in "rc"), torch.zeros(5)) for module in SHAPES}
    assert worth(still, [random_map(0), random_map(1)]) == pytest.approx([0.5, 0.5])


def test_a_map_on_disk_is_what_it_was_and_nothing_else_is_read(tmp_path):
    maps = random_map(12)
    write_map(tmp_path / "one.safetensors", maps, {"source": "a run"})
    found = read_map(tmp_path / "one.safetensors")
    assert found.keys() == maps.keys() and all(torch.equal(found[m].rows, maps[m].rows) for m in maps)
    (tmp_path / "no.safetensors").write_bytes(b"no map")
    with pytest.raises(DataError, match="no.safetensors"):
        read_map(tmp_path / "no.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="foresight maps"):
        read_map(tmp_path / "other.safetensors")
