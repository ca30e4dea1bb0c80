"""A prior knows layer and kind and nothing else, and comes back from its file as it was."""

import numpy as np
import pytest

from foresight.common.errors import ConfigError
from foresight.policies.prior import LayerKindPrior
from support.simulated import series


def test_a_prior_is_the_mean_rank_by_layer_and_kind():
    runs = [series("walk", seed) for seed in range(3)]
    found = LayerKindPrior.learn(runs).scores(runs[0])
    for layer in range(3):
        for kind in ("head", "mlp"):
            here = (runs[0].layer == layer) & (runs[0].kind == kind)
            ranks = [run.values[:, -1].argsort().argsort()[here].mean() / (len(run) - 1) for run in runs]
            assert np.allclose(found[here], np.mean(ranks))


def test_layers_are_met_by_relative_depth():
    run = series("walk")
    deep = run._with(layer=2 * run.layer + run.index % 2)
    prior = LayerKindPrior.learn([run])
    mine, its = prior.scores(run), prior.scores(deep)
    assert np.allclose(mine, its)  # each of three layers became two


def test_it_comes_back_from_its_file(tmp_path):
    runs = [series("walk", seed) for seed in range(2)]
    runs.append(runs[1].take(np.flatnonzero((runs[1].kind == "mlp") | (runs[1].layer > 0))))  # no heads in layer 0
    prior = LayerKindPrior.learn(runs)
    prior.write(tmp_path / "prior.json")
    again = LayerKindPrior.read(tmp_path / "prior.json")
    assert again == prior and np.array_equal(again.scores(runs[0]), prior.scores(runs[0]))
    assert (tmp_path / "prior.json").stat().st_size < 2000


def test_order_of_runs_does_not_matter():
    runs = [series("walk", seed) for seed in range(4)]
    assert np.array_equal(LayerKindPrior.learn(runs).scores(runs[0]), LayerKindPrior.learn(runs[::-1]).scores(runs[0]))


def test_an_unknown_kind_and_no_run_are_named():
    run = series("walk")
    heads = run.take(np.flatnonzero(run.kind == "head"))
    with pytest.raises(ConfigError, match="no component of kind 'mlp'"):
        LayerKindPrior.learn([heads]).scores(run)
    with pytest.raises(ConfigError, match="at least one"):
        LayerKindPrior.learn([])
