"""What a result comes from: the key that it is kept under, and the versions, code and files that made it."""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ..common.files import sha256

SCIENCE = 3
"""Version of what runs compute. Raise it by one when the results of any run may change: studies then run their cells
anew instead of continuing with results of before. `tests/studies/test_science.py` fails when this was forgotten."""

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "scikit-learn", "scipy")
"""Distributions whose version may change the results of a run."""

PACKAGE = Path(__file__).parents[1]


def cell_key(cell: Any) -> str:
    """Hex digest (16 characters) of a cell (a dataclass of JSON values), `SCIENCE` and the versions of `LIBRARIES`."""
    return text_digest([SCIENCE, asdict(cell), _versions()])


def text_digest(data: Any) -> str:
    """Hex digest (16 characters) of JSON data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


@cache
def environment() -> dict[str, str]:
    """Versions, platform, a digest of foresight's files and its commit; nothing that names the user or the machine."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    found |= {"foresight-sft": _version("foresight-sft"), **_versions()}
    found |= {"science": str(SCIENCE), "code": digest(PACKAGE)}
    return found | ({"git": commit} if (commit := git_commit()) else {})


def git_commit() -> str | None:
    """The commit of foresight's own source, with "+changes" if it differs; None where it is not a git checkout."""
    if not (PACKAGE.parent / ".git").exists():
        return None

    def git(command: str) -> str:
        ran = ["git", "-C", str(PACKAGE.parent), *command.split()]
        return subprocess.run(ran, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    try:
        return git("rev-parse HEAD") + ("+changes" if git(f"status --porcelain -- {PACKAGE.name}") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def digest(path: Path) -> str:
    """Hex digest (16 characters) of a file, or of the files in a folder and their names, without hidden and compiled
    ones."""
    files = (p for p in path.rglob("*") if p.is_file() and p.name[0] != "." and p.parent.name != "__pycache__")
    found = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(files):
        found.update(f"{file.relative_to(path).as_posix()}\0".encode() + bytes.fromhex(sha256(file)))
    return found.hexdigest()[:16]


def plugin_digests(classes: Iterable[type]) -> dict[str, str]:
    """Name -> digest of the source file of each class that is not foresight's own, for which `SCIENCE` cannot speak."""
    known = (PACKAGE.name, "builtins", "abc", "typing")
    foreign = [one for one in classes if one.__module__.split(".")[0] not in known]
    return {f"{one.__module__}:{one.__qualname__}": digest(Path(inspect.getfile(one))) for one in foreign}


@cache
def _versions() -> dict[str, str]:
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
