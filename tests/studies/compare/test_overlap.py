"""How much of the realised circuit was trained, against hand values."""

import numpy as np
import pytest

from foresight.common.errors import TrajectoryError
from foresight.masks.budget import budget_vectors
from foresight.masks.masks import Mask
from foresight.masks.schedule import MaskSchedule
from foresight.model.components import component_table
from foresight.scoring.scores import Scores
from foresight.studies.compare.trial import circuit_at, share_trained
from foresight.trajectory.trajectory import Trajectory
from support.tiny import tiny


@pytest.fixture(scope="module")
def table():
    return component_table(tiny())


def test_the_share_counts_vectors_and_time(table):
    """A head of 32 vectors and an MLP block of 24 are the circuit; the head is in the mask for a quarter of the run."""
    head, block = table.id_of["L0.head.0"], table.id_of["L1.mlp.0"]
    sizes = table.vectors[[head, block]]
    schedule = MaskSchedule([(0, Mask.of([block])), (75, Mask.of([head, block]))])
    expected = (sizes[1] + 0.25 * sizes[0]) / sizes.sum()
    assert share_trained(schedule, [head, block], table, 100) == pytest.approx(expected)


def test_it_is_one_for_the_circuit_and_for_everything(table):
    circuit, everything = Mask.of([0, 3]), Mask.of(range(len(table)))
    for mask in (circuit, everything):
        assert share_trained(MaskSchedule([(0, mask)]), circuit.components, table, 7) == 1.0
    assert share_trained(MaskSchedule([(0, Mask.of([1, 2]))]), circuit.components, table, 7) == 0.0
    assert share_trained(MaskSchedule([(0, circuit)]), [], table, 7) is None


def test_a_circuit_is_the_top_of_its_snapshot(table):
    trajectory = Trajectory.create(None, table)
    rng = np.random.default_rng(0)
    for step in (0, 10):
        trajectory.append(step, {"attribution": Scores(rng.normal(size=len(table)), np.zeros(len(table)))})
    for snapshot in (0, -1):
        circuit = circuit_at(trajectory, table, 0.1, snapshot)
        outside = np.setdiff1d(np.arange(len(table)), circuit.components)
        strength = trajectory.series("attribution").values[:, snapshot]
        assert strength[list(circuit.components)].max() == strength.max()
        spare = budget_vectors(table, 0.1) - table.vectors[list(circuit.components)].sum()
        assert 0 <= spare < table.vectors[outside].min()


def test_the_circuit_of_another_model_is_refused(table):
    other = component_table(tiny(num_hidden_layers=1))
    trajectory = Trajectory.create(None, other)
    trajectory.append(0, {"attribution": Scores(np.ones(len(other)), np.zeros(len(other)))})
    with pytest.raises(TrajectoryError, match="component table"):
        circuit_at(trajectory, table, 0.1)
