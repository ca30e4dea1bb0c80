"""What a type checker sees of the public API."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import foresight
from eval.typed_settings import STUB, stub

PROGRAM = """\
import foresight
from foresight import ForesightConfig

reveal_type(ForesightConfig)
args = ForesightConfig(output_dir="run", budget=0.1, learning_rate=1e-4, policy_params={"redraw": True})
reveal_type(args.budget)
ForesightConfig(buget=1)
ForesightConfig(budget="much")
reveal_type(foresight.Mask)
"""
SKIP = "[mypy]\n[mypy-torch.*,transformers.*,trl.*]\nfollow_imports = skip\n[mypy-*]\nignore_missing_imports = True\n"


def test_stub_is_that_of_the_installed_libraries():
    text = STUB.read_text()
    if text.splitlines()[0] != stub().splitlines()[0]:
        pytest.skip(f"written for others than trl {version('trl')}: run python -m eval.typed_settings")
    assert text == stub()


def test_every_public_name_can_be_imported():
    for name in foresight.__all__:
        assert getattr(foresight, name) is not None


def test_config_is_typed(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text(SKIP)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    said = done.stdout
    assert 'program.py:4: note: Revealed type is "def (**settings: ' in said and "ForesightConfig" in said, said
    assert 'program.py:6: note: Revealed type is "float"' in said or 'is "builtins.float"' in said
    assert 'program.py:7: error: Unexpected keyword argument "buget" for "ForesightConfig"' in said
    assert "program.py:8: error: " in said and said.count(": error: ") == 2
    assert "program.py:9: note: " in said and "-> foresight.masks.masks.Mask" in said
