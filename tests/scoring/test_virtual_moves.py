"""Benefit and damage are what a step of torch's Adam would do, to first order; harm that is planted is found."""

import threading
from copy import deepcopy

import numpy as np
import pytest
import torch

from foresight.common.errors import DataError, NonFiniteError
from foresight.model.components import component_table
from foresight.model.placement import Placement
from foresight.scoring import make_scorer
from foresight.scoring.probes import TextProbe
from foresight.scoring.scorer import BENEFIT, DAMAGE
from foresight.scoring.virtual_moves import VirtualMoves
from support.planted_damage import A, B, harmful_model, probes
from support.tiny import tiny, tokens

RATE = 3e-3


def text_probe(seed, rows=6, batch=4):
    return TextProbe.from_dataset([{"input_ids": row} for row in tokens(rows, 10, seed).tolist()], batch)


def dense(model, table, probe):
    """Gradient of the mean loss over the probe by target, from autograd."""
    model = deepcopy(model).requires_grad_(True)
    ids = torch.cat([batch.input_ids for batch in probe.batches])
    model(input_ids=ids, labels=ids).loss.backward()
    return {t.module: model.get_submodule(t.module).weight for t in table.targets}


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_both_are_first_order_effects_of_adams_first_step(family):
    model, target, retained = tiny(family), text_probe(1), text_probe(2)
    table = component_table(model)
    weights, other = dense(model, table, target), dense(model, table, retained)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    torch.optim.Adam(weights.values(), lr=RATE, eps=1e-8).step()
    expected = {BENEFIT: np.zeros(len(table)), DAMAGE: np.zeros(len(table))}
    for name, weight in weights.items():
        move = (weight - before[name]).detach()
        for key, gradient in ((BENEFIT, -weight.grad), (DAMAGE, other[name].grad)):
            effect = gradient * move if family != "gpt2" else (gradient * move).T
            for i, component in enumerate(table):
                for s in component.slices:
                    if s.module == name:
                        rows = effect if s.axis == "row" else effect.T
                        expected[key][i] += rows[s.start : s.stop].sum().item()
    found = VirtualMoves(RATE, retained=retained).measure(model, table, target)
    for key, values in expected.items():
        np.testing.assert_allclose(found[key].values, values, rtol=1e-4, atol=1e-7)
    assert (found[BENEFIT].values >= 0).all() and (found[DAMAGE].values < 0).any()


def test_benefit_is_the_utility_under_adam_of_one_minibatch():
    model, probe = tiny(), text_probe(1, rows=4)
    table = component_table(model)
    utility = make_scorer("utility", preconditioner="adam").score(model, table, probe).values
    benefit = VirtualMoves(RATE, epsilon=1e-30).score(model, table, probe).values
    np.testing.assert_allclose(benefit, RATE * utility, rtol=1e-5)


def test_damage_to_the_target_itself_is_minus_the_benefit_and_retained_batches_do_not_matter():
    model, probe = tiny(), text_probe(1)
    table = component_table(model)
    found = VirtualMoves(RATE, retained=text_probe(1, batch=2)).measure(model, table, probe)
    np.testing.assert_allclose(found[DAMAGE].values, -found[BENEFIT].values, rtol=1e-5)
    assert set(VirtualMoves(RATE).measure(model, table, probe)) == {BENEFIT}
    np.testing.assert_array_equal(VirtualMoves(RATE).score(model, table, probe).values, found[BENEFIT].values)


def test_weights_gradients_and_mode_are_left_alone():
    model, probe = tiny().train(), text_probe(1)
    before = deepcopy(model.state_dict())
    VirtualMoves(RATE, retained=text_probe(2)).measure(model, component_table(model), probe)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


class Thread(Placement):
    """One of two processes that are threads."""

    world = 2

    def __init__(self, rank, shared):
        self.rank, self.shared = rank, shared

    def _exchange(self, mine):
        self.shared["slots"][self.rank] = mine
        self.shared["barrier"].wait()
        found = list(self.shared["slots"])
        self.shared["barrier"].wait()
        return found

    def gather(self, mine):
        return self._exchange(mine)

    def sum_at(self, tensor, owner):
        return torch.stack(self._exchange(tensor)).sum(0)


def test_processes_share_the_probes_and_get_what_one_gets():
    model, target, retained = tiny(), text_probe(1, rows=12), text_probe(2, rows=9, batch=3)
    table = component_table(model)
    alone = VirtualMoves(RATE, retained=retained).measure(model, table, target)
    shared = {"slots": [None, None], "barrier": threading.Barrier(2, timeout=30)}
    found = [None, None]

    def work(rank):
        moves = VirtualMoves(RATE, retained=retained)
        found[rank] = moves.measure(deepcopy(model), table, target, Thread(rank, shared))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in (BENEFIT, DAMAGE):
        np.testing.assert_array_equal(found[0][key].values, found[1][key].values)
        np.testing.assert_allclose(found[0][key].values, alone[key].values, rtol=1e-4, atol=1e-8)


def test_a_component_that_harms_by_construction_is_found():
    model = harmful_model()
    table = component_table(model, mlp_block=2)
    target, retained = probes()
    found = VirtualMoves(RATE, retained=retained).measure(model, table, target)
    benefit, damage = (dict(zip(table.name, found[key].values, strict=True)) for key in (BENEFIT, DAMAGE))
    assert benefit[B] > benefit[A] > 0 and max(benefit, key=benefit.get) == B
    assert damage[B] > 0.5 * benefit[B] and damage[A] == 0


def test_costs_are_counted():
    model, target, retained = tiny(), text_probe(1, rows=8), text_probe(2, rows=12)
    table = component_table(model)
    moves = VirtualMoves(RATE, retained=retained)
    moves.measure(model, table, target)
    cost = moves.cost(batches=6, measurements=3)
    assert (cost["benefit_passes"], cost["damage_passes"]) == (6, 9) and cost["damage_seconds"] > 0
    assert VirtualMoves(RATE).cost(6, 3) == {"benefit_passes": 6, "damage_passes": 0, "damage_seconds": 0.0}


def test_bad_inputs():
    model = tiny()
    table = component_table(model)
    with pytest.raises(DataError, match="needs a probe"):
        VirtualMoves(RATE, retained=text_probe(2)).measure(model, table, None)
    with torch.no_grad():
        model.get_submodule(table.targets[0].module).weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="benefit gave nan"):
        VirtualMoves(RATE, retained=text_probe(2)).measure(model, table, text_probe(1))
