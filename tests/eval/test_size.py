"""What the script that counts the package counts."""

from __future__ import annotations

from eval import size
from eval.imports import Package


def test_the_closure_has_the_packages_on_the_way_and_what_functions_import(tmp_path):
    root = tmp_path / "p"
    for file, text in {
        "__init__.py": "",
        "a/__init__.py": "from .seldom import thing\n",
        "a/start.py": "import os\n\ndef f():\n    from ..b import late\n",
        "a/seldom.py": "thing = 1\n",
        "b/__init__.py": "",
        "b/late.py": "",
        "b/unread.py": "",
    }.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    read = Package(root).closure("p.a.start")
    assert read == {"p", "p.a", "p.a.start", "p.a.seldom", "p.b", "p.b.late"}


def test_it_prints_every_limit_and_the_longest_files(capsys):
    size.main()
    printed = capsys.readouterr().out
    for limit in size.LIMITS:
        assert limit in printed
    assert size.COMMAND.rpartition(".")[2] in printed and "foresight/" in printed


def test_own_settings_are_those_that_the_trainer_of_trl_lacks():
    settings = size.own_settings()
    assert {"budget", "policy"} <= set(settings) and "learning_rate" not in settings


def test_lines_are_counted_by_room():
    assert size.rooms({"foresight": 1, "foresight.cli": 2, "foresight.a.b": 3, "foresight.a": 4}) == {
        "a": 7, "cli": 2, "__init__": 1,
    }  # fmt: skip
