"""A delta on disk: whole, of this model and in its place, or refused by name before a weight is written."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from foresight.bank.base_weights import digest, fingerprint
from foresight.bank.delta import INFO, WEIGHTS, apply_delta, write_delta
from foresight.common.errors import CheckpointError
from foresight.common.sealed import write_sealed
from foresight.model.components import component_table
from foresight.model.placement import Placement, bit_sum
from foresight.model.weight_table import weight_table
from support.tiny import tiny


def written(folder, unit="vectors"):
    model = tiny()
    table = component_table(model) if unit == "vectors" else weight_table(model)
    ids = torch.arange(3, table.n_vectors, 7)
    values = torch.randn(
        len(ids), table.d_model if unit == "vectors" else 1, generator=torch.Generator().manual_seed(0)
    )
    base = digest(fingerprint(model, Placement()), Placement())
    write_delta(folder, table, ids, values, {"model": "tiny", "base_hash": base, "dtype": "float32", "step": 3})
    return folder


@pytest.fixture(params=["vectors", "weights"])
def delta(tmp_path, request):
    return written(tmp_path / "delta", request.param)


def forged(folder, change, seal=True):
    """The delta with other tensors or another JSON part; with `seal` the checksum is made to fit."""
    tensors, info = load_file(folder / WEIGHTS), json.loads((folder / INFO).read_text())
    change(tensors, info)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    del info["checksum"]
    if seal:
        info["sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    write_sealed(folder / INFO, info)


def first(tensors, part):
    return next(name for name in tensors if name.endswith(f".{part}"))


def set_index(tensors, places):
    name = first(tensors, "index")
    tensors[name][: len(places)] = torch.tensor(places)


FORGERIES = {
    "a negative place": (lambda t, i: set_index(t, [-1]), "has to ascend from 0"),
    "a place twice": (lambda t, i: set_index(t, [3, 3]), "has to ascend"),
    "places out of order": (lambda t, i: set_index(t, [10, 3]), "has to ascend"),
    "a place too far": (lambda t, i: t[first(t, "index")].__setitem__(-1, 10**9), "at most"),
    "no places": (lambda t, i: t.pop(first(t, "index")), "index is missing"),
    "no values": (lambda t, i: t.pop(first(t, "values")), "values is missing"),
    "a value that is no number": (lambda t, i: t[first(t, "values")].__setitem__(0, float("nan")), "has to be finite"),
    "one value for all": (lambda t, i: t.update({first(t, "values"): t[first(t, "values")][:1]}), r"float32 \["),
    "halves": (lambda t, i: t.update({first(t, "values"): t[first(t, "values")].half()}), "float32"),
    "places that are no integers": (lambda t, i: t.update({first(t, "index"): t[first(t, "index")].float()}), "ascend"),
    "another Linear": (
        lambda t, i: t.update({"lm_head.index": torch.tensor([1])}),
        "which this model does not have",
    ),
    "a Linear less": (lambda t, i: [t.pop(first(t, part)) for part in ("index", "values")], "vectors, and delta.json"),
    "another version": (lambda t, i: i.update(version=9), "has version 9"),
    "no version": (lambda t, i: i.pop("version"), "delta.json cannot be read"),
    "another base": (lambda t, i: i.update(base_hash="0"), "but this model's weights are"),
    "no checksum": (lambda t, i: i.pop("sha256"), "lacks the checksum"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_delta_is_refused_and_nothing_is_written(delta, name):
    change, message = FORGERIES[name]
    forged(delta, change, seal=name != "no checksum")
    model, before = tiny(), tiny().state_dict()
    with pytest.raises(CheckpointError, match=message):
        apply_delta(model, delta)
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())


def test_an_edited_description_is_refused(delta):
    text = (delta / INFO).read_text()
    (delta / INFO).write_text(text.replace('"model": "tiny"', '"model": "tony"'))
    with pytest.raises(CheckpointError, match="delta.json cannot be read .*its checksum is"):
        apply_delta(tiny(), delta)


def test_a_damaged_delta_is_refused(delta):
    data = bytearray((delta / WEIGHTS).read_bytes())
    data[-3] ^= 1
    (delta / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="its checksum differs"):
        apply_delta(tiny(), delta)
    (delta / INFO).write_text("[1]")
    with pytest.raises(CheckpointError, match="delta.json cannot be read"):
        apply_delta(tiny(), delta)


def test_rows_in_another_order_are_another_base(delta):
    model = tiny()
    weight = model.model.layers[0].mlp.up_proj.weight
    weight.data[[0, 1]] = weight.data[[1, 0]]
    with pytest.raises(CheckpointError, match="but this model's weights are"):
        apply_delta(model, delta)


def test_a_delta_without_a_checksum_is_of_version_1(delta, caplog):
    model = tiny()
    base = digest(fingerprint(model, Placement(), ordered=False), Placement())
    forged(delta, lambda t, i: (i.pop("sha256"), i.update(version=1, base_hash=base)), seal=False)
    copy = shutil.copytree(delta, delta.parent / "copy")
    expected = apply_delta(tiny(), written(delta.parent / "new", json.loads((copy / INFO).read_text())["unit"]))
    found = apply_delta(model, copy).state_dict()
    assert all(torch.equal(weight, found[key]) for key, weight in expected.state_dict().items())
    assert "without a checksum" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_sums_of_bits_see_order_and_add_up_over_shards(dtype):
    weight = (100 * torch.rand(300, 17, generator=torch.Generator().manual_seed(0))).to(dtype)
    whole = bit_sum(weight)
    for other in (weight.flip(0), weight.flip(1), weight.roll(1, 0), weight.T.contiguous().view(300, 17)):
        assert bit_sum(other) != whole
        assert bit_sum(other, None) == bit_sum(weight, None)
    changed = weight.clone()
    changed.view(-1)[1234] += 1
    assert bit_sum(changed) != whole
    for cut in (1, 1000, 1024, 4000):
        first, rest = weight.flatten()[:cut], weight.flatten()[cut:]
        total = bit_sum(first) + bit_sum(rest, cut)
        assert (total - whole) % 2**64 == 0
    padded = torch.cat([weight.flatten(), torch.zeros(11, dtype=dtype)])
    assert bit_sum(padded) == whole
