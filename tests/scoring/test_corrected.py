import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from foresight.common.errors import DataError
from foresight.model import shipped
from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.scoring.corrected import PAIRS, correct, error, units
from foresight.scoring.exact import ablation_effects
from foresight.scoring.probes import ContrastProbe
from foresight.scoring.scores import Scores
from foresight.tasks import task
from support.scoring_cases import pair_probe, text_probe
from support.tiny import tiny

ATTRIBUTION = make_scorer("attribution")


def case(family="mistral", pairs=4):
    model, probe = tiny(family), pair_probe((9,) * pairs, batch_size=4)
    table = component_table(model, mlp_block=8)
    return model, table, probe


@pytest.fixture(scope="module")
def trained():
    path = shipped.model_path()
    return AutoModelForCausalLM.from_pretrained(path).requires_grad_(False), AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize("name", ["attribution", "attribution_ig", "attribution_abs"])
def test_all_units_patched_on_all_pairs_have_their_exact_effects(name):
    model, table, probe = case()
    assert probe.n_examples <= PAIRS
    scorer = make_scorer(name)
    found = correct(scorer, model, table, probe, scorer.score(model, table, probe), patches=len(table))
    rows = ablation_effects(model, table, probe, [g.tolist() for g in units(table)])
    rows = np.abs(rows) if name == "attribution_abs" else rows
    for members, effect in zip(units(table), rows.mean(0), strict=True):
        assert found.exact[members].sum() == pytest.approx(effect, rel=1e-3, abs=1e-5)


def test_a_unit_is_a_head_a_kv_group_or_the_mlp_of_a_layer():
    _, table, _ = case()
    together = units(table)
    assert sorted(np.concatenate(together)) == list(range(len(table)))
    for members in together:
        kinds, layers = set(table.kind[members]), set(table.layer[members])
        assert len(kinds) == len(layers) == 1 and (len(members) == 1) == (kinds != {"mlp"})


def test_blocks_share_the_error_of_their_mlp_by_size():
    model, table, probe = case("llama")
    scores = ATTRIBUTION.score(model, table, probe)
    blocks = next(group for group in units(table) if len(group) > 1)
    scores.values[blocks] = np.abs(scores.values[blocks])
    added = error(correct(ATTRIBUTION, model, table, probe, scores, patches=len(table)))[blocks]
    ratios = added / scores.values[blocks]
    assert np.allclose(ratios, ratios[0], rtol=1e-3) and abs(ratios[0]) > 1e-3
    scores.values[blocks[0]] *= -1
    mixed = error(correct(ATTRIBUTION, model, table, probe, scores, patches=len(table)))[blocks]
    assert np.allclose(mixed, added, rtol=1e-3)
    scores.values[blocks] = 0
    empty = correct(ATTRIBUTION, model, table, probe, scores, patches=len(table)).exact[blocks]
    assert np.allclose(empty, empty[0]) and np.isclose(empty.sum(), added.sum(), rtol=1e-3)


def test_the_error_of_a_few_pairs_is_added_to_the_estimate_of_all():
    model, table, probe = case(pairs=PAIRS + 8)
    scores = ATTRIBUTION.score(model, table, probe)
    found = correct(ATTRIBUTION, model, table, probe, scores, patches=len(table))
    heads = np.flatnonzero(table.kind == "head")
    errors = make_scorer("exact").samples(model, table, probe) - ATTRIBUTION.samples(model, table, probe)
    picked = np.unique(np.linspace(0, probe.n_examples - 1, PAIRS).round().astype(int))
    expected = scores.values + errors[picked].mean(0)
    assert np.allclose(found.exact[heads], expected[heads], rtol=1e-3, atol=1e-5)
    spread = errors[picked].std(0, ddof=1) / np.sqrt(PAIRS)
    assert np.allclose(found.exact_stderr[heads], np.hypot(scores.stderr, spread)[heads], rtol=1e-3)
    assert not np.allclose(expected, scores.values + errors.mean(0), rtol=1e-2)  # else any pairs would have done


def test_every_unit_has_its_turn_and_what_has_moved_has_it_again():
    model, table, probe = case()
    together, scores = units(table), ATTRIBUTION.score(model, table, probe)
    past: list[Scores] = []
    for _ in range(len(together)):
        past.append(correct(ATTRIBUTION, model, table, probe, scores, past, patches=1))
    turns = [np.flatnonzero(~np.isnan(one.exact)).tolist() for one in past]
    assert sorted(turns) == sorted(group.tolist() for group in together)
    moved = Scores(scores.values.copy(), scores.stderr)
    moved.values[3] += 5
    again = correct(ATTRIBUTION, model, table, probe, moved, past, patches=1)
    assert np.flatnonzero(~np.isnan(again.exact)).tolist() == [3]
    assert np.array_equal(again.values, moved.values) and np.array_equal(again.stderr, scores.stderr)


def test_the_model_is_left_alone_and_the_result_is_the_same_again():
    model, table, probe = case()
    model.train()
    scores = ATTRIBUTION.score(model, table, probe)
    one, other = (correct(ATTRIBUTION, model, table, probe, scores, patches=3) for _ in range(2))
    assert np.array_equal(one.exact, other.exact, equal_nan=True)
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_text_is_refused():
    model, table, probe = case()
    with pytest.raises(DataError, match="contrast pairs"):
        correct(ATTRIBUTION, model, table, text_probe(), ATTRIBUTION.score(model, table, probe))


def test_a_few_patches_find_what_attribution_misses(trained):
    """`reverse` has a head that saturates (see test_fidelity.py)."""
    model, tokenizer = trained
    table = component_table(model)
    probe = ContrastProbe.from_dataset(task("reverse").contrast(tokenizer, "test", 32), tokenizer, 16)
    exact = make_scorer("exact").score(model, table, probe).values
    scores = ATTRIBUTION.score(model, table, probe)
    found = correct(ATTRIBUTION, model, table, probe, scores, patches=8)
    heads = table.kind == "head"
    before, after = (
        np.corrcoef(one[heads], exact[heads])[0, 1] for one in (scores.values, scores.values + error(found))
    )
    assert before < 0.97 and after > 0.99 and (~np.isnan(found.exact[heads])).sum() <= 8
