"""The table of vectors is the table of components with a component per vector, made without one object each."""

import hashlib
import json

import numpy as np
import pytest

from foresight.masks.masks import Mask
from foresight.model.components import Component, ComponentTable, Slice, component_table
from foresight.model.vector_table import vector_table
from foresight.trajectory.series import METADATA
from support.tiny import FAMILIES, tiny


def plain(model) -> ComponentTable:
    """The table as version 0.1 made it: an object for every vector."""
    table, vectors, seen = component_table(model, mlp_block=1), [], {}
    for parent in table:
        for piece in parent.slices:
            for i in range(piece.start, piece.stop):
                index = seen[parent.layer, parent.kind] = seen.get((parent.layer, parent.kind), -1) + 1
                cut = (Slice(piece.module, piece.axis, i, i + 1),)
                name = f"{parent.name}.{piece.module.rsplit('.', 1)[-1]}.{i}"
                vectors.append(Component(name, parent.layer, parent.kind, index, cut, ()))
    return ComponentTable(vectors, table.targets, table.d_model, table.model_parameters)


@pytest.fixture(params=FAMILIES, scope="module")
def both(request):
    model = tiny(request.param)
    return plain(model), vector_table(model)


def test_all_that_a_run_reads_is_as_before(both):
    before, now = both
    for field, dtype in METADATA.items():
        old, new = getattr(before, field), getattr(now, field)
        assert np.array_equal(old, new) and (dtype is str or old.dtype == new.dtype == dtype), field
    assert len(now) == len(before) == now.n_vectors and now.smallest == 1
    assert np.array_equal(now.owner, before.owner)
    assert list(now) == list(before.components) and now.components[-1] == before.components[-1]
    some = np.random.default_rng(0).permutation(len(now))[:50]
    ids = now.vector_ids(Mask.of(some).components)
    assert ids.dtype == np.int64 and np.array_equal(ids, before.vector_ids(some))


def test_names_lead_back_to_positions(both):
    _, table = both
    assert {name: table.id_of[name] for name in table.id_of} == dict(
        zip(table.name.tolist(), range(len(table)), strict=True)
    )
    known = table.names([7])[0]
    for name in ("", "L0", known + "0000", known.replace("L0", "L9"), known.replace("head.0", "head.3"), known + "\n"):
        assert name not in table.id_of


def test_files_of_before_are_of_this_table(both):
    before, now = both
    assert now.has_hash(before.hash) and now.has_hash(now.hash) and not before.has_hash(now.hash)
    text = json.dumps([before.d_model, [[c.name, [list(vars(s).values()) for s in c.slices]] for c in before]])
    assert before.hash == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_other_tables_have_other_hashes():
    tables = [vector_table(tiny(*given, **changes)) for given, changes in (
        (("llama",), {}), (("mistral",), {}), (("llama",), {"intermediate_size": 64}),
        (("llama",), {"num_attention_heads": 8, "num_key_value_heads": 8}),
    )]  # fmt: skip
    assert len({table.hash for table in tables}) == len(tables)
    assert not any(table.has_hash(tables[0].hash) for table in tables[1:])
    assert vector_table(tiny("llama", seed=1)).hash == tables[0].hash
