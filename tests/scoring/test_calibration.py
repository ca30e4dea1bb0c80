import numpy as np
import pytest

from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.scoring.calibration import calibrate, slope
from foresight.scoring.exact import ablation_effects
from foresight.scoring.scorer import Scores
from support.scoring_cases import pair_probe
from support.tiny import tiny


def scores_that_are_off(model, table, probe, off):
    """Scores whose heads, KV groups and whole MLPs are known factors below what exact patching gives."""
    exact = make_scorer("exact").score(model, table, probe).values
    values = exact / np.array([off[k] for k in table.kind])
    for layer in np.unique(table.layer):
        blocks = np.flatnonzero((table.kind == "mlp") & (table.layer == layer))
        whole = ablation_effects(model, table, probe, [blocks.tolist()]).mean()
        values[blocks] = whole / len(blocks) / off["mlp"]
    return Scores(values.astype(np.float32), np.zeros(len(table), np.float32))


def test_known_factors_are_found():
    model, probe = tiny("mistral"), pair_probe()
    table = component_table(model, mlp_block=8)
    off = {"head": 2.0, "kv": 0.5, "mlp": 3.0}
    found = calibrate(model, table, probe, scores_that_are_off(model, table, probe, off))
    assert found == pytest.approx(off, rel=1e-3)


def test_only_the_strongest_heads_are_patched(monkeypatch):
    model, probe = tiny("llama"), pair_probe()
    table = component_table(model)
    scores = scores_that_are_off(model, table, probe, {"head": 2.0, "mlp": 3.0})
    heads = np.flatnonzero(table.kind == "head")
    weakest = heads[np.argsort(np.abs(scores.values[heads]))[:-2]]
    scores.values[weakest] /= 100  # would give another factor if they were used
    monkeypatch.setattr("foresight.scoring.calibration.TOP", 2)
    assert calibrate(model, table, probe, scores)["head"] == pytest.approx(2.0, rel=1e-3)


def test_kinds_that_cannot_be_estimated_are_left_alone():
    model, probe = tiny("llama"), pair_probe()
    table = component_table(model)
    zeros = Scores(np.zeros(len(table), np.float32), np.zeros(len(table), np.float32))
    assert calibrate(model, table, probe, zeros) == {"head": 1.0, "mlp": 1.0}


def test_model_and_training_flags_are_left_alone():
    model, probe = tiny("llama").train(), pair_probe()
    table = component_table(model)
    calibrate(model, table, probe, make_scorer("attribution").score(model, table, probe))
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_slope_minimises_the_absolute_error_and_ignores_an_outlier():
    x = np.array([1.0, 2.0, 3.0, 4.0, 1.0])
    y = np.array([2.0, 4.0, 6.0, 8.0, 100.0])
    assert slope(x, y) == 2.0
    noisy = np.random.default_rng(0).uniform(0.1, 1, (2, 30))
    grid = np.linspace(0.05, 5, 2000)
    best = grid[np.abs(noisy[1] - grid[:, None] * noisy[0]).sum(1).argmin()]
    assert slope(*noisy) == pytest.approx(best, abs=0.01)
    assert slope(np.ones(3), np.zeros(3)) == 1.0
