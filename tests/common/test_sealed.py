import json
import logging

import numpy as np
import pytest
from safetensors.numpy import save_file

from foresight.common import sealed
from foresight.common.files import read_json, write_json
from foresight.common.sealed import load_sealed, read_sealed, save_sealed, write_sealed

ARRAYS = {"ids": np.arange(3), "scale": np.array(2.5, np.float32), "table": np.ones((2, 3))[:, ::2]}


def test_what_is_written_is_read(tmp_path):
    write_sealed(tmp_path / "a.json", {"b": (1, 2.5), "a": {"x": None}})
    assert read_sealed(tmp_path / "a.json") == {"b": [1, 2.5], "a": {"x": None}}
    save_sealed(tmp_path / "a.safetensors", ARRAYS, {"made": "here"})
    arrays, header = load_sealed(tmp_path / "a.safetensors")
    assert header == {"made": "here"} and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)


def test_a_changed_number_is_noticed(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, {"accuracy": 0.25})
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(ValueError, match="its checksum is .*, and it says .*: it is damaged, or was changed"):
        read_sealed(path)
    path = tmp_path / "a.safetensors"
    save_sealed(path, ARRAYS, {"made": "here"})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its checksum"):
        load_sealed(path)


def test_what_has_no_checksum_is_read_and_said_to_be_unverified(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(sealed, "_told", False)
    write_json(tmp_path / "a.json", {"a": 1})
    save_file({"ids": np.arange(3)}, tmp_path / "a.safetensors")
    with caplog.at_level(logging.WARNING):
        assert read_sealed(tmp_path / "a.json") == {"a": 1}
        assert load_sealed(tmp_path / "a.safetensors")[0]["ids"].tolist() == [0, 1, 2]
    assert caplog.text.count("has no checksum") == 1


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": ' * 100_000])
def test_what_is_no_json_is_a_value_error(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json")


def test_a_list_is_not_an_object(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        read_sealed(tmp_path / "a.json")
