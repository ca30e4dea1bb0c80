"""Forecasts of movement on planted runs: found where it can be foreseen, at chance where it cannot."""

import json

import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, DataError
from foresight.forecasters.single_weights.features import FEATURES, NEEDS, WatchedMatrix, features, levels, outer
from foresight.forecasters.single_weights.movement import RULES, Example, Regression, example, movement_forecast
from foresight.forecasters.single_weights.sums import WeightSums

SHAPES = {f"model.layers.{i}.mlp.{leaf}": (40, 50) for i in range(2) for leaf in ("up_proj", "down_proj")}
STEPS, WATCH, RATE = 100, 20, 0.01


def planted(case, seed=0, form="dense", names=NEEDS):
    """An Adam run on noisy gradients of which a tenth are consistent: (what the watch measured, final distances).

    foreseen: the same weights throughout; late: others after the watch, drawn anew.
    """
    generator = torch.Generator().manual_seed(seed)
    kept, final, weights = WeightSums(SHAPES, names, form), {}, {}
    for module, shape in SHAPES.items():
        signs = torch.randn(shape, generator=generator).sign()
        early = (torch.rand(shape, generator=generator) < 0.1) * signs
        late = early if case == "foreseen" else (torch.rand(shape, generator=generator) < 0.1) * signs
        start = torch.randn(shape, generator=generator)
        weight = torch.nn.Parameter(start.clone())
        adam = torch.optim.Adam([weight], RATE, betas=(0.8, 0.8))
        for step in range(STEPS):
            weight.grad = (early if step < WATCH else late) + torch.randn(shape, generator=generator)
            if step < WATCH:
                kept.stepped(module, weight.grad)
            adam.step()
            if step == WATCH - 1:
                kept.displaced(module, (weight.detach() - start).abs())
        final[module], weights[module] = (weight.detach() - start).abs(), start
    return (lambda: (WatchedMatrix(m, kept.read(m), weights[m]) for m in SHAPES)), final


def overlap(scores, final, share=0.1):
    found, goal = (torch.cat([values[m].flatten() for m in SHAPES]) for values in (scores, final))
    n = int(share * len(goal))
    return len(np.intersect1d(found.topk(n).indices, goal.topk(n).indices)) / n


def trained():
    runs = [example(*planted("foreseen", seed), layers=2, n=4000, seed=seed) for seed in (1, 2)]
    return Regression.fit(runs, layers=2)


@pytest.mark.parametrize("rule", [*RULES, "regression"])
def test_a_consistent_gradient_is_foreseen_and_a_change_of_mind_is_not(rule):
    forecast = trained() if rule == "regression" else movement_forecast(rule)
    found = {}
    for case in ("foreseen", "late"):
        everything, final = planted(case)
        found[case] = overlap(dict(forecast.scores(everything)), final)
    assert found["foreseen"] > 0.6 and found["late"] < 0.25, found


def test_sums_of_a_byte_foresee_as_well_as_exact_ones():
    found = {}
    for form in ("dense", "low-precision"):
        everything, final = planted("foreseen", form=form)
        found[form] = overlap(dict(movement_forecast("signal-to-noise").scores(everything)), final)
    assert abs(found["dense"] - found["low-precision"]) < 0.1


def test_rows_and_columns_do_not_find_scattered_weights():
    everything, final = planted("foreseen", form="factored", names=("displacement",))
    assert overlap(dict(movement_forecast("displacement").scores(everything)), final) < 0.25


def test_a_regression_is_repeatable_and_survives_its_file(tmp_path):
    one, other = trained(), trained()
    assert np.array_equal(one.coefficients, other.coefficients)
    one.write(tmp_path / "rule.json")
    again = movement_forecast(str(tmp_path / "rule.json"))
    everything, _ = planted("foreseen")
    for (name, a), (same, b) in zip(one.scores(everything), again.scores(everything), strict=True):
        assert name == same and torch.equal(a, b) and a.shape == SHAPES[name]


def test_what_a_regression_says_is_the_log_of_relative_movement():
    everything, final = planted("foreseen", seed=7)
    said = torch.cat([values.flatten() for _, values in trained().scores(everything)])
    moved = torch.cat([final[m].flatten() for m in SHAPES])
    truth = (moved / moved.mean() + 1e-3).log10()
    assert 1 - ((said - truth) ** 2).mean() / truth.var() > 0.15
    assert abs(float(said.mean() - truth.mean())) < 0.05


def test_features_are_free_of_units():
    everything, _ = planted("foreseen")
    scaled = [
        WatchedMatrix(
            m.module,
            {**m.sums, "displacement": 7 * m.sums["displacement"],
             **{k: 3**power * m.sums[k] for k, power in (("gradient", 1), ("absolute", 1), ("square", 2))}},
            m.weight,
        )
        for m in everything()
    ]  # fmt: skip
    plain = [features(m, levels(everything()), 2) for m in everything()]
    others = [features(m, levels(scaled), 2) for m in scaled]
    assert all(one.shape == (2000, len(FEATURES)) and torch.isfinite(one).all() for one in plain)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(plain, others, strict=True))
    depth, up = plain[0][:, FEATURES.index("depth")], plain[0][:, FEATURES.index("up_proj")]
    assert (depth == 0).all() and (up == 1).all() and (plain[3][:, FEATURES.index("depth")] == 1).all()


def test_weights_that_nothing_is_known_of_have_features_too():
    zeros = {name: torch.zeros(3, 4) for name in NEEDS}
    measured = WatchedMatrix("lm_head", zeros, torch.zeros(3, 4))
    assert torch.isfinite(features(measured, levels([measured]), 1)).all()
    assert not outer(torch.zeros(3, 4)).any()


def test_bad_inputs_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'agreement'\?"):
        movement_forecast("agrement")
    good = tmp_path / "good.json"
    Regression(np.zeros(2 * len(FEATURES)), 0.0, 2).write(good)
    data = json.loads(good.read_text())
    for change in ({"version": 2}, {"features": ["depth"]}, {"coefficients": [1.0]}, {"intercept": None}):
        (tmp_path / "bad.json").write_text(json.dumps({**data, **change}))
        with pytest.raises(ConfigError, match="not a movement regression"):
            movement_forecast(str(tmp_path / "bad.json"))
    with pytest.raises(ConfigError, match="not a movement regression"):
        movement_forecast(str(tmp_path / "absent.json"))
    with pytest.raises(DataError, match="no recorded run"):
        Regression.fit([], 2)
    everything, final = planted("foreseen")
    with pytest.raises(DataError, match="no weight of the recorded run has moved"):
        example(everything, {m: torch.zeros(s) for m, s in SHAPES.items()}, 2, 100)
    assert isinstance(example(everything, final, 2, 100), Example)
