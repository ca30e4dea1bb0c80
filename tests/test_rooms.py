"""The package is a row of rooms: each imports only from those before it, and files never import in a circle."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.imports import Import, Package, circles

ROOT = Path(__file__).parents[1] / "foresight"
ROOMS = (
    "common", "model", "tasks", "scoring", "trajectory", "forecasters", "masks", "bank", "policies", "training",
    "studies", "report", "commands", "cli",
)  # fmt: skip
LOOSE_FILES = {"__init__.py", "__main__.py", "cli.py", "py.typed"}


@pytest.fixture(scope="module")
def package() -> Package:
    return Package(ROOT)


def test_the_package_holds_its_rooms_and_no_loose_files():
    assert {path.name for path in ROOT.iterdir() if path.is_file()} == LOOSE_FILES
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS) - {"cli"}


def test_a_room_imports_only_from_rooms_before_it(package):
    assert [(_short(name), _short(need.module)) for name, need in _imports(package) if _is_against(name, need)] == []


def test_no_files_import_one_another_in_a_circle(package):
    assert _circles(package) == []


def test_the_order_is_checked_inside_functions_and_under_type_checking(tmp_path):
    root = tmp_path / "foresight"
    for file, text in {
        "__init__.py": "",
        "common/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..model import a\n",
        "model/__init__.py": "",
        "model/a.py": "def f():\n    from foresight.tasks.b import c\n\nfrom .. import __version__, model\n",
        "tasks/__init__.py": "",
        "tasks/b.py": "import foresight.model.a\nfrom ..common import x\n",
    }.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    package = Package(root)
    against = [(_short(name), _short(need.module)) for name, need in _imports(package) if _is_against(name, need)]
    assert against == [("common", "model.a"), ("model.a", "tasks.b")]
    assert _circles(package) == [["foresight.common", "foresight.model.a", "foresight.tasks.b"]]
    assert package.closure("foresight.tasks.b") == set(package.files)


def _circles(package: Package) -> list[list[str]]:
    return circles({name: package.needs(name) for name in package.files})


def _imports(package: Package) -> list[tuple[str, Import]]:
    return [(name, need) for name, needs in package.imports.items() for need in needs]


def _is_against(name: str, need: Import) -> bool:
    room, other = _room(name), _room(need.module)
    if room is None:  # the top level itself, which names the public API
        return False
    if other is None:
        return need.names != ("__version__",) and bool(need.names)
    return ROOMS.index(other) > ROOMS.index(room)


def _room(name: str) -> str | None:
    room = _short(name).partition(".")[0]
    return room if room in ROOMS else None


def _short(name: str) -> str:
    return name.removeprefix("foresight").removeprefix(".")
