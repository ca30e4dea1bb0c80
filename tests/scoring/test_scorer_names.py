import subprocess
import sys

import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, NonFiniteError, UnknownNameError
from foresight.model.components import component_table
from foresight.scoring import SCORERS, make_scorer
from foresight.scoring.scorer import Scorer
from support.scoring_cases import pair_probe
from support.tiny import tiny


def test_names_are_those_of_the_documentation():
    assert set(SCORERS) == {
        "attribution", "attribution_abs", "attribution_ig", "exact", "gradient_activation", "gradient",
        "gradient_local",
        "weight_gradient", "movement", "utility", "step_attribution",
    }  # fmt: skip


def test_unknown_scorer_is_refused_with_the_closest_name():
    with pytest.raises(UnknownNameError, match="unknown scorer 'atribution' \\(did you mean 'attribution'"):
        make_scorer("atribution")


def test_unknown_parameter_is_refused_with_the_closest_name():
    with pytest.raises(ConfigError, match="no parameter 'point' .*'points'.*it has: points, metric"):
        make_scorer("attribution_ig", point=5)
    with pytest.raises(ConfigError, match="it has: none"):
        make_scorer("gradient", norm=1)


@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"movement"}))
def test_values_that_are_not_finite_are_refused_by_name(name):
    model = tiny("llama")
    model.model.layers[0].self_attn.o_proj.weight.data[0, 0] = torch.inf
    with pytest.raises(NonFiniteError, match=f"{name} gave (nan|-?inf) for L0.head.0"):
        make_scorer(name).score(model, component_table(model), pair_probe())


def test_one_bad_score_is_named():
    class Broken(Scorer):
        name = "broken"

        def _samples(self, model, table, probe):
            samples = np.zeros((2, len(table)))
            samples[1, 3] = np.nan
            return samples

    model = tiny("llama")
    table = component_table(model)
    with pytest.raises(NonFiniteError, match=f"broken gave nan for {table.components[3].name} \\(1 of {len(table)}"):
        Broken().score(model, table, pair_probe())


def test_the_names_are_known_before_anything_heavy_is_imported():
    code = (
        "import sys, foresight.scoring, foresight.tasks, foresight.tasks.data_config, foresight.model.model_config;"
        "assert not {'numpy', 'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scorers_import_neither_transformers_nor_datasets():
    code = (
        "import sys, foresight.scoring as s; [s.make_scorer(name) for name in s.SCORERS if name != 'movement'];"
        "assert not {'transformers', 'datasets', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", SCORERS)
def test_what_is_listed_is_what_the_scorer_says(name):
    scorer = make_scorer(name, **({"reference": {}} if name == "movement" else {}))
    assert scorer.name == name
    assert scorer.needs_pairs == (name in ("attribution", "attribution_abs", "attribution_ig", "exact"))


def test_pairs_are_needed_for_what_reads_them():
    for name in ("exact", "attribution"):
        assert make_scorer(name, ablation="mean", metric="logit_difference").needs_pairs
        assert make_scorer(name, ablation="corrupted", metric="loss").needs_pairs
        assert not make_scorer(name, ablation="zero", metric="loss").needs_pairs


@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"movement", "gradient", "weight_gradient"}))
def test_batches_scored_apart_and_put_together_are_the_probe_scored_at_once(name):
    """What several processes do with a shared probe; scorers of the whole probe's gradient sum that instead."""
    model = tiny("llama")
    table, scorer = component_table(model), make_scorer(name)
    probe = pair_probe(batch_size=2)
    assert len(probe.batches) > 1
    parts = [scorer.samples(model, table, probe.only(batch)) for batch in probe.batches]
    whole, together = scorer.score(model, table, probe), scorer.combine(np.concatenate(parts), table)
    assert np.array_equal(whole.values, together.values) and np.array_equal(whole.stderr, together.stderr)
