"""Files that are whole or absent."""

from foresight.common.files import write_whole


def test_a_temporary_name_cannot_be_guessed_and_is_gone_afterwards(tmp_path):
    seen = []
    for _ in range(2):
        write_whole(tmp_path / "a.json", lambda path: (seen.append(path.name), path.write_text("1")))
    assert len(set(seen)) == 2 and all(name.startswith(".a.json.") and name.endswith(".part") for name in seen)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
