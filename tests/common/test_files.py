"""Files that are whole or absent."""

import numpy as np
from safetensors.numpy import save_file

from foresight.common.files import write_whole


def test_a_temporary_name_cannot_be_guessed_and_is_gone_afterwards(tmp_path):
    seen = []
    for _ in range(2):
        write_whole(tmp_path / "a.json", lambda path: (seen.append(path.name), path.write_text("1")))
    assert len(set(seen)) == 2 and all(name.startswith(".a.json.") and name.endswith(".part") for name in seen)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_arrays_can_be_read_by_whoever_can_read_texts(tmp_path):
    write_whole(tmp_path / "a.safetensors", lambda path: save_file({"a": np.zeros(2)}, path))
    write_whole(tmp_path / "a.json", lambda path: path.write_text("1"))
    (tmp_path / "plain").write_text("1")
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1
