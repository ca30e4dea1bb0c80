import numpy as np
import pytest

from foresight.model.components import component_table
from foresight.studies.circuits import faithfulness as faithfulness_module
from foresight.studies.circuits.distance import rank_distances
from foresight.studies.circuits.faithfulness import circuit_drops, faithfulness, stability
from foresight.trajectory.metrics import spearman
from support.circuit_cases import learned_probe, noisy
from support.tiny import tiny


def drops(*losses, gap=10.0, examples=6):
    """Every example loses the same: a circuit of faithfulness f loses (1 - f) gap."""
    return np.tile([*losses, gap], (examples, 1))


def values(measured):
    return [m.value for m in measured]


def test_the_ratio_by_hand():
    """Faithfulness 0.5, 0.8 (own), 1.2, -0.4: ratios 0.625, 1, 1.5, -0.5."""
    faithful, ratio = stability(drops(5, 2, -2, 14), own=1)
    assert values(faithful) == pytest.approx([0.5, 0.8, 1.2, -0.4])
    assert values(ratio) == pytest.approx([0.625, 1, 1.5, -0.5])
    assert ratio[1].low == ratio[1].high == 1 and ratio[1].floor_high == 0


@pytest.mark.parametrize("own_loss", [10.0, 13.0])
def test_an_own_circuit_that_explains_nothing_leaves_the_ratio_undefined(own_loss):
    faithful, ratio = stability(drops(5, own_loss), own=1)
    assert values(faithful) == pytest.approx([0.5, 1 - own_loss / 10])
    assert np.isnan(values(ratio)).all()


def test_a_model_without_the_behaviour_leaves_everything_undefined():
    for gap in (0.0, -3.0):
        assert np.isnan([values(part) for part in stability(drops(5, 2, gap=gap), own=0)]).all()


@pytest.mark.parametrize(("own", "defined"), [(0.01, False), (0.5, True)])
def test_a_ratio_to_noise_is_undefined(own, defined):
    """The noise of the own circuit's faithfulness has a standard error of .022: .01 is nothing, .5 is something."""
    noise = np.random.default_rng(0).normal(0, 1, 20)
    samples = np.stack([np.full(20, 5.0), 10 * (1 - own) + noise - noise.mean(), np.full(20, 10.0)], 1)
    faithful, ratio = stability(samples, own=1)
    assert values(faithful) == pytest.approx([0.5, own])
    assert np.isfinite(values(ratio)).all() == np.isfinite(values(ratio)).any() == defined
    assert not defined or ratio[0].value == pytest.approx(1)


def test_on_a_real_model_all_circuits_are_ablated_in_one_call(monkeypatch):
    model = tiny("mistral")
    table, probe = component_table(model), learned_probe(model)
    order = np.random.default_rng(0).permutation(len(table))
    circuits = [order[:20], order[:30], np.arange(len(table)), order[:30][::-1]]
    calls, real = [], faithfulness_module.ablation_effects

    def counted(*args):
        calls.append(len(args[3]))
        return real(*args)

    monkeypatch.setattr(faithfulness_module, "ablation_effects", counted)
    _, ratio = stability(circuit_drops(model, table, probe, circuits), own=2)
    assert calls == [5]
    alone = [faithfulness(circuit_drops(model, table, probe, [c]).mean(0))[0] for c in circuits]
    assert values(ratio) == pytest.approx(alone, rel=1e-4)
    assert ratio[2].value == 1 and ratio[1] == ratio[3]
    assert 0 < ratio[1].floor < ratio[1].floor_high


def part(matrix, name):
    return np.array([[getattr(one, name) for one in row] for row in matrix])


def test_rank_distance_is_one_minus_spearman():
    samples = [noisy(np.random.default_rng(seed).random(30), seed=seed) for seed in range(3)]
    samples.append(-samples[0])
    samples.append(np.round(samples[1], 0))  # with ties
    found = rank_distances(samples)
    for s, a in enumerate(samples):
        for t, b in enumerate(samples):
            assert found[s][t].value == pytest.approx(1 - spearman(a.mean(0), b.mean(0)), abs=1e-12)
    for name in ("value", "low", "high", "floor", "floor_high"):
        np.testing.assert_array_equal(part(found, name), part(found, name).T)
    assert found[0][3].value == pytest.approx(2)
    np.testing.assert_allclose(np.diag(part(found, "value")), 0, atol=1e-12)


def test_scores_that_do_not_move_stay_within_the_floor_and_others_leave_it():
    rng = np.random.default_rng(0)
    truth = rng.random(40)
    samples = [noisy(truth, seed=1), noisy(truth, seed=2), noisy(rng.permutation(truth), seed=3)]
    _, still, moved = rank_distances(samples)[0]
    assert 0 < still.value < still.floor_high
    assert moved.value > moved.floor_high and moved.low > moved.floor_high


def test_constant_scores_have_no_rank_distance():
    found = rank_distances([np.ones((4, 5)), noisy(np.arange(5.0), examples=4)])
    assert np.isnan(part(found, "value")[0]).all() and np.isnan(part(found, "low")[0]).all()
    assert found[1][1].value == 0
