import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from foresight.model.components import component_table, stored_transposed
from foresight.scoring.probes import ContrastProbe, TextProbe
from foresight.studies.circuits import faithfulness as module
from foresight.studies.circuits.faithfulness import (
    FRACTIONS,
    NoBehaviourError,
    areas,
    check_behaviour,
    circuit_drops,
    curve_points,
    faithfulness,
    faithfulness_curve,
)
from support.circuit_cases import learned_probe, plain_batch
from support.planted import make_table
from support.scoring_cases import goodness, logits_of
from support.tiny import tiny, tokens


def additive(worth, examples=8, noise=0.0):
    """Stands in for `ablation_effects`: every component is worth a fixed part of the metric, on top of each other."""
    worth = np.asarray(worth, np.float64)
    per_example = 1 + noise * np.random.default_rng(0).normal(size=examples)

    def effects(model, table, probe, groups, ablation, metric):
        return np.outer(per_example, [worth[list(group)].sum() for group in groups])

    return effects


def curve_of(monkeypatch, worth, noise=0.0, ranking=None):
    monkeypatch.setattr(module, "ablation_effects", additive(worth, noise=noise))
    table = make_table(layers=1, heads=len(worth), blocks=0)
    ranking = np.argsort(-np.asarray(worth)) if ranking is None else ranking
    return told(faithfulness_curve(torch.nn.Identity(), table, ContrastProbe([plain_batch((4,))]), ranking))


def told(found):
    """The curve by what its rows say."""
    whole = {name: number for name, size, _, number in found if size is None}
    points = [(size, number) for _, size, _, number in found if size is not None]
    return SimpleNamespace(**whole, sizes=[size for size, _ in points], faithfulness=[number for _, number in points])


def test_areas_by_hand():
    """p = 0, 1/2, 1 and f = 0, 1.2, 1.

    CPR = (0 + 1.2)/4 + (1.2 + 1)/4 = 0.85; CMD = (1 + 0.2)/4 + (0.2 + 0)/4 = 0.35.
    """
    cpr, cmd = areas(np.array([0, 0.5, 1]), np.array([[0, 1.2, 1], [0, -1.2, 1]]))
    np.testing.assert_allclose(cpr, [0.85, -0.35])
    np.testing.assert_allclose(cmd, [0.35, (1 + 2.2) / 4 + 2.2 / 4])


def test_areas_on_the_benchmarks_fractions():
    """Linear axis from 0.001 on, unscaled: f = 1 has area 0.999, and half of the area hangs on two points.

    f = 0 up to p = 0.2, then 1: (0.5 - 0.2) / 2 + (1 - 0.5) = 0.65; the rest, 0.999 - 0.65 = 0.349, is CMD.
    """
    assert areas(np.array(FRACTIONS), np.ones(10))[0] == pytest.approx(0.999)
    cpr, cmd = areas(np.array(FRACTIONS), np.array([0] * 8 + [1] * 2))
    assert (cpr, cmd) == (pytest.approx(0.65), pytest.approx(0.349))


def test_points_of_the_curve():
    sizes, fractions = curve_points(2500)
    assert sizes.tolist() == [2, 5, 12, 25, 50, 125, 250, 500, 1250, 2500] and fractions.tolist() == list(FRACTIONS)
    assert curve_points(1000)[0][0] == 1
    sizes, fractions = curve_points(20)
    assert sizes.tolist() == list(range(21)) and fractions[-1] == 1
    for n in (1, 33, 240, 999):
        sizes, fractions = curve_points(n)
        assert sizes[0] == 0 and sizes[-1] == n and (np.diff(sizes) > 0).all() and len(sizes) <= 33
        np.testing.assert_array_equal(fractions, sizes / n)


def test_a_graph_of_four_components_by_hand(monkeypatch):
    """Worth 4, 3, 2, 1 of 10 that add up: f = 0, .4, .7, .9, 1 at p = 0, 1/4, ... 1.

    CPR = (0/2 + .4 + .7 + .9 + 1/2) / 4 = 0.625; CMD = (1/2 + .6 + .3 + .1 + 0) / 4 = 0.375.
    """
    curve = curve_of(monkeypatch, [1, 2, 3, 4])
    assert curve.sizes == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([point.value for point in curve.faithfulness], [0, 0.4, 0.7, 0.9, 1], atol=1e-12)
    assert (curve.cpr.value, curve.cmd.value) == (pytest.approx(0.625), pytest.approx(0.375))
    assert curve.gap.value == pytest.approx(10)


def test_a_component_that_hurts_makes_the_curve_overshoot(monkeypatch):
    """Worth 6, 5, -1 of 10: f = 0, .6, 1.1, 1. CPR = (.6 + 1.1 + .5) / 3; CMD = (.5 + .4 + .1) / 3."""
    curve = curve_of(monkeypatch, [6, 5, -1])
    assert (curve.cpr.value, curve.cmd.value) == (pytest.approx(2.2 / 3), pytest.approx(1 / 3))
    by_size = curve_of(monkeypatch, [6, 5, -1], ranking=[2, 1, 0])  # worst first: f = 0, -.1, .4, 1
    assert (by_size.cpr.value, by_size.cmd.value) == (pytest.approx(0.8 / 3), pytest.approx((0.5 + 1.1 + 0.6) / 3))


def test_a_ratio_of_means_does_not_see_noise_that_scales_every_effect(monkeypatch):
    curve = curve_of(monkeypatch, [1, 2, 3, 4], noise=0.2)
    assert curve.cpr.low == pytest.approx(0.625) == curve.cpr.high
    assert curve.cpr.floor_high == pytest.approx(0, abs=1e-9)
    assert curve.gap.low < curve.gap.value < curve.gap.high and curve.gap.floor > 0


def test_faithfulness_is_a_ratio_of_means_over_examples():
    """Two examples with gaps 1 and 3; the circuit loses 1 and 0: f = 1 - 0.5 / 2 = 0.75 (a mean of ratios has 0.5)."""
    drops = np.array([[1.0, 1], [0, 3]])
    assert faithfulness(drops.mean(0)).tolist() == [0.75]
    assert np.isnan(faithfulness(np.array([[1.0, 0], [1, -2]]))).all()


def without(model, table, components):
    """A copy of the model in which the weights that read these components' activations are zero."""
    model = copy.deepcopy(model)
    for i in components:
        s = table.components[i].slices[-1]
        weight = model.get_submodule(s.module).weight.data
        (weight.T if stored_transposed(model.get_submodule(s.module)) else weight)[:, s.start : s.stop] = 0
    return model


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_curve_on_a_real_model_equals_models_with_zeroed_weights(family, monkeypatch):
    real = module.ablation_effects
    monkeypatch.setattr(module, "ablation_effects", lambda *args: real(*args[:4], "zero", args[5]))
    model = tiny(family)
    table = component_table(model, mlp_block=24)
    probe = learned_probe(model, against=without(model, table, range(len(table))))

    def mean_metric(outside):
        changed = without(model, table, outside)
        with torch.no_grad():
            found = [goodness("logit_difference", logits_of(changed, b), b) for b in probe.batches]
        return torch.cat(found).mean().item()

    ranking = np.random.default_rng(0).permutation(len(table))
    full, empty = mean_metric([]), mean_metric(range(len(table)))
    curve = told(faithfulness_curve(model, table, probe, ranking))
    expected = [(mean_metric(ranking[k:]) - empty) / (full - empty) for k in curve.sizes]
    assert [p.value for p in curve.faithfulness] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert curve.faithfulness[0].value == pytest.approx(0, abs=1e-6)
    assert curve.faithfulness[-1].value == pytest.approx(1, abs=1e-6)
    assert curve.cpr.value == pytest.approx(np.trapezoid(expected, np.array(curve.sizes) / len(table)), rel=1e-3)


def test_with_equal_last_tokens_the_empty_circuit_is_the_corrupted_run():
    model = tiny("mistral")
    table, probe = component_table(model), learned_probe(model)
    with torch.no_grad():
        gap = [
            goodness("logit_difference", logits_of(model, b), b)
            - goodness("logit_difference", logits_of(model, b, corrupted=True), b)
            for b in probe.batches
        ]
    drops = circuit_drops(model, table, probe, [range(len(table)), []])
    np.testing.assert_allclose(drops[:, 1], torch.cat(gap).numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(drops[:, 1], drops[:, 2])
    np.testing.assert_allclose(drops[:, 0], 0, atol=1e-5)


def test_plain_text_has_a_faithfulness_too():
    model = tiny("llama")
    table = component_table(model)
    ids = tokens(4, 8)
    with torch.no_grad():
        best = model(ids).logits.argmax(-1)  # what the model says is right
    rows = zip(ids.tolist(), best[:, :-1].tolist(), strict=True)
    probe = TextProbe.from_dataset([{"input_ids": row, "labels": [-100, *said]} for row, said in rows], 4)
    check_behaviour(circuit_drops(model, table, probe, [range(len(table))]))


@pytest.mark.parametrize(
    "gap", [np.zeros(8), np.full(8, 1e-7), np.full(8, -2.0), np.random.default_rng(0).normal(0, 1, 8), np.zeros(1)]
)
def test_without_a_behaviour_nothing_is_faithful(gap):
    with pytest.raises(NoBehaviourError, match="expected clearly more than 0"):
        check_behaviour(np.stack([gap, gap], 1))


def test_a_clear_gap_is_a_behaviour():
    check_behaviour(np.array([[0.0, 0.9], [0, 1.1]]))
    check_behaviour(np.array([[0.0, 0.1]]))


def test_clean_prompts_as_corrupted_ones_are_no_behaviour():
    model = tiny("llama")
    batch = plain_batch((6, 6))
    batch.corrupted_ids.copy_(batch.input_ids)
    table = component_table(model)
    with pytest.raises(NoBehaviourError):
        faithfulness_curve(model, table, ContrastProbe([batch]), range(len(table)))
