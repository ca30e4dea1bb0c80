from dataclasses import replace

import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, NonFiniteError
from foresight.model.components import component_table, stored_transposed
from foresight.scoring.probes import ContrastProbe
from foresight.studies.circuits import conflict as module
from foresight.studies.circuits.conflict import circuit_conflict, gradient_products
from support.circuit_cases import plain_batch
from support.planted import make_table
from support.scoring_cases import goodness, logits_of
from support.tiny import FAMILIES, tiny


def dense_gradients(model, table, probe):
    """Autograd's gradients of every example's loss, each component's weights in one row: [example][component]."""
    modules = {s.module: model.get_submodule(s.module) for c in table for s in c.slices}
    result = []
    for batch in probe.batches:
        for i in range(len(batch)):
            one = batch.rows(slice(i, i + 1))
            loss = -goodness("loss", logits_of(model, one), one).sum()
            found = torch.autograd.grad(loss, [m.weight for m in modules.values()])
            gradient = {
                name: g.T if stored_transposed(m) else g for (name, m), g in zip(modules.items(), found, strict=True)
            }

            def cut(s, gradient=gradient):
                matrix = gradient[s.module]
                return (matrix[s.start : s.stop] if s.axis == "row" else matrix[:, s.start : s.stop]).flatten()

            result.append([torch.cat([cut(s) for s in c.slices]).double().numpy() for c in table])
    return result


@pytest.mark.parametrize("family", FAMILIES)
def test_products_equal_those_of_autograds_dense_gradients(family):
    model = tiny(family)
    table = component_table(model)
    a = ContrastProbe([plain_batch((6, 4)), plain_batch((5,), seed=3)])
    b = ContrastProbe([plain_batch((7, 5, 6), seed=5)])
    b.batches[0].targets[:2, 2] = 7  # some examples have two labelled tokens
    dense_a, dense_b = dense_gradients(model, table, a), dense_gradients(model, table, b)
    expected = np.array([[[x[c] @ y[c] for y in dense_b] for x in dense_a] for c in range(len(table))])
    model.requires_grad_(False).train()
    found = gradient_products(model, table, a, b, range(len(table)))
    assert found.shape == (len(table), 3, 3) and model.training
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    back = gradient_products(model, table, b, a, range(len(table)))
    np.testing.assert_allclose(found, back.transpose(0, 2, 1), rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    some = gradient_products(model, table, a, b, [len(table) - 1, 2])
    np.testing.assert_allclose(some, found[[len(table) - 1, 2]], rtol=1e-5, atol=1e-7 * np.abs(expected).max())


def test_an_examples_product_with_itself_is_its_squared_gradient():
    model = tiny("llama").requires_grad_(True)
    table, probe = component_table(model), ContrastProbe([plain_batch((6, 6)), plain_batch((5,), seed=3)])
    found = gradient_products(model, table, probe, probe, range(len(table)))
    np.testing.assert_allclose(found, found.transpose(0, 2, 1), rtol=1e-4, atol=1e-7)
    squares = [[g @ g for g in example] for example in dense_gradients(model, table, probe)]
    np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), np.transpose(squares), rtol=1e-3)
    assert all(p.grad is None for p in model.parameters())


def test_checkpointed_layers_give_the_same_products():
    model, probe = tiny("llama"), ContrastProbe([plain_batch((6, 6))])
    table = component_table(model)
    plain = gradient_products(model, table, probe, probe, range(len(table)))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    np.testing.assert_allclose(gradient_products(model, table, probe, probe, range(len(table))), plain, rtol=1e-6)


def two_word_tasks():
    """A model that knows two words and holds both equally likely, and two tasks that want opposite ones."""
    model = tiny("llama", vocab_size=2, initializer_range=0.02, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 2, (8, 6), generator=generator)
    batch = replace(plain_batch((6,) * 8), input_ids=ids, corrupted_ids=1 - ids)
    one = batch.targets.clone()
    one[:, -1] = ids[:, 0]
    other = torch.where(one >= 0, 1 - one, one)
    return model, *(ContrastProbe([replace(batch, targets=targets)]) for targets in (one, other))


def test_opposite_labels_conflict_everywhere_and_a_task_never_with_itself():
    model, one, other = two_word_tasks()
    table = component_table(model)
    scores = np.random.default_rng(0).normal(size=len(table))
    found = circuit_conflict(
        model, table, {"one": one, "other": other, "again": one}, {"one": scores, "other": scores, "again": scores}, k=8
    )
    assert [(row["task_a"], row["task_b"], row["value"]) for row in found] == [
        ("one", "other", 1), ("one", "again", 0), ("other", "again", 1)
    ]  # fmt: skip
    assert found[1]["opposed"] == [] and found[0]["opposed"] == table.name[np.argsort(-np.abs(scores))[:8]].tolist()
    assert all(row["shared"] == 8 and row["low"] <= row["value"] <= row["high"] for row in found)


def test_the_order_of_tasks_does_not_matter():
    model, one, other = two_word_tasks()
    table = component_table(model)
    scores = np.arange(len(table)) + 1.0
    probes, scores = {"a": one, "b": other}, {"a": scores, "b": np.roll(scores, 3)}
    (forth,) = circuit_conflict(model, table, probes, scores, k=8)
    (back,) = circuit_conflict(model, table, dict(reversed(probes.items())), scores, k=8)
    assert 0 < forth["shared"] < 8
    for name in ("value", "floor", "floor_high", "shared", "opposed"):
        assert forth[name] == back[name]


def planted(monkeypatch, products, scores, k, examples=6):
    """Conflict over a table of 27 components with products of examples put in by hand."""
    table = make_table()
    rng = np.random.default_rng(0)

    def fake(model, table, a, b, components):
        value, spread = products(a, b)
        noise = spread * rng.normal(size=(len(components), examples, examples))
        return np.asarray(value)[components][:, None, None] + noise

    class Named:
        n_examples = examples

        def __init__(self, name):
            self.name = name

    monkeypatch.setattr(module, "gradient_products", fake)
    full = {task: np.pad(values, (0, len(table) - len(values))) for task, values in scores.items()}
    return circuit_conflict(None, table, {task: Named(task) for task in scores}, full, k)


def test_the_share_by_hand(monkeypatch):
    """Circuits {0, 1, 2} and {0, 1, 3} share 0 and 1. Scores 6, -3, 1 (sum 10) and 1, 2, 5 (sum 8).

    w(0) = min(6/10, 1/8) = 0.125; w(1) = min(3/10, 2/8) = 0.25. They pull 1 apart: 0.25 / 0.375 = 2/3.
    """
    value = np.ones(27)
    value[1] = -1.0
    found = planted(
        monkeypatch,
        lambda a, b: (np.ones(27) if a is b else value, 0.0),
        {"a": [6, -3, 1, 0], "b": [1, 2, 0, -5]},
        k=3,
    )
    (row,) = found
    assert row["value"] == pytest.approx(2 / 3) and (row["shared"], row["opposed"]) == (2, [make_table().name[1]])
    assert row["low"] == row["high"] == row["value"] and row["floor_high"] == 0


def test_noise_shows_in_the_interval_and_in_the_floor(monkeypatch):
    (noise,) = planted(
        monkeypatch, lambda a, b: (np.zeros(27), 1.0), {"a": np.arange(1.0, 28), "b": np.arange(1.0, 28)}, k=20
    )
    assert 0 < noise["low"] < noise["high"] < 1 and 0.2 < noise["floor"] < noise["floor_high"]


def test_circuits_that_share_nothing_have_no_conflict(monkeypatch):
    found = planted(
        monkeypatch, lambda a, b: (np.ones(27), 0.0), {"a": [1, 2, 0, 0], "b": [0, 0, 1, 2], "c": [0, 1, 1, 0]}, k=2
    )
    none, some, _ = found
    assert np.isnan([none["value"], none["floor"]]).all() and (none["shared"], none["opposed"]) == (0, [])
    assert (some["task_b"], some["value"]) == ("c", 0)


def test_bad_input_is_refused():
    model, probe = tiny("llama"), ContrastProbe([plain_batch((4, 4))])
    table = component_table(model)
    good = np.ones(len(table))
    cases = [
        ({"a": probe, "b": probe}, {"a": good, "b": good}, 0, "k is 0"),
        ({"a": probe, "b": ContrastProbe([plain_batch((4,))])}, {"a": good, "b": good}, 3, "1 examples to resample"),
    ]
    for probes, scores, k, message in cases:
        with pytest.raises(ConfigError, match=message):
            circuit_conflict(model, table, probes, scores, k)
    with pytest.raises(NonFiniteError):
        circuit_conflict(model, table, {"a": probe, "b": probe}, {"a": good, "b": good * np.nan}, 3)
