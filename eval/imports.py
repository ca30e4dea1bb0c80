"""The static import graph of a package: which file imports which, read from the source without running it.

Imports inside functions and under TYPE_CHECKING count; modules that are imported by a computed name do not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """An import statement: the module it imports from, the names it takes and its line."""

    module: str
    names: tuple[str, ...]
    line: int


class Package:
    """The files of a package by dotted module name.

    Args:
        root: the package's folder; its name is the package's.

    Attributes:
        files: path by module name; a folder's ``__init__.py`` has the folder's name.
        imports: the imports of the package's own modules, by importing module.
    """

    def __init__(self, root: Path):
        self.files = {_module_name(path, root): path for path in sorted(root.rglob("*.py"))}
        self.imports = {name: list(self._imports(name)) for name in self.files}

    def needs(self, name: str) -> set[str]:
        """The modules that a module names in its imports, without the packages on the way to them."""
        return {found.module for found in self.imports[name]}

    def closure(self, start: str) -> set[str]:
        """Every module that is read when `start` and everything it imports are read, with the packages on the way."""
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += [parent for parent in _parents(name) if parent in self.files]
                ahead += self.needs(name)
        return seen

    def _imports(self, name: str) -> Iterator[Import]:
        path = self.files[name]
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in self.files:
                        yield Import(alias.name, (), node.lineno)
            elif isinstance(node, ast.ImportFrom):
                base = _absolute(node, package)
                modules = {alias.name: f"{base}.{alias.name}" for alias in node.names}
                yield from (Import(m, (), node.lineno) for m in modules.values() if m in self.files)
                names = tuple(alias for alias, module in modules.items() if module not in self.files)
                if names and base in self.files:
                    yield Import(base, names, node.lineno)


def circles(needs: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of two and more modules each of which reaches all others of its group, sorted."""
    reach = {name: _reachable(name, needs) for name in needs}
    groups = {frozenset(m for m in reach[name] if name in reach[m]) for name in needs if name in reach[name]}
    return sorted(sorted(group) for group in groups)


def _reachable(start: str, needs: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = list(needs[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += needs.get(name, ())
    return seen


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
