"""Records of finished cells: what was asked, what came of it, and with which versions; typed, as JSON on disk."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from ..common.errors import DataError, did_you_mean
from ..common.sealed import read_sealed

RESULT = "result.json"
"""Name of a record's file in the folder of its cell."""
SCHEMA = 2
"""Version of the JSON files of studies; a reader refuses another one instead of guessing."""


class CellLike(Protocol):
    """A frozen dataclass of JSON values that says everything that decides the result of a run."""

    @property
    def label(self) -> str: ...


C = TypeVar("C", bound=CellLike)
M = TypeVar("M")


@dataclass(frozen=True)
class Record(Generic[C, M]):
    """A finished cell: what it measured (a dataclass or plain JSON, as the study has it), or the error that ended it.
    Key and environment are those of `provenance`.
    """

    key: str
    cell: C
    environment: dict[str, str]
    measures: M | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        return self.measures is None

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def read_record(path: Path, cell: type[C], measures: type[M]) -> Record[C, M] | None:
    """The record at `path`, or None if there is none yet. Raises DataError if it is damaged, of another schema, or has
    other fields than `cell` and `measures` do.
    """
    try:
        return record_of(read_sealed(path), cell, measures)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a result ({error}); delete its folder and run again") from error


def record_of(data: dict[str, Any], cell: type[C], measures: type[M]) -> Record[C, M]:
    """Inverse of `Record.to_json`. Raises DataError for another schema or other fields."""
    if data.pop("schema", None) != SCHEMA:
        raise DataError(f"another schema than {SCHEMA}")
    known = decode(Record, data)
    found = None if known.measures is None else decode(measures, known.measures)
    return Record(known.key, decode(cell, known.cell), known.environment, found, known.error)


def decode(kind: Any, data: Any) -> Any:
    """Plain JSON as a value of an annotated type: dataclasses, tuples, lists, dicts and unions with None, nested.
    Raises DataError if a dataclass lacks a field without default, or is given one that it does not have.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if data is None else decode(next(arg for arg in args if arg is not type(None)), data)
    if origin is tuple:
        kinds = [args[0]] * len(data) if args[-1] is Ellipsis else args
        return tuple(decode(one, value) for one, value in zip(kinds, data, strict=True))
    if origin is list:
        return [decode(args[0], value) for value in data]
    if origin in (dict, Mapping):
        return {key: decode(args[1], value) for key, value in data.items()}
    if is_dataclass(kind):
        return _decoded(kind, data)
    return data


def _decoded(kind: Any, data: dict[str, Any]) -> Any:
    known, required = _fields(kind)
    unknown, missing = sorted(data.keys() - known), sorted(required - data.keys())
    if unknown or missing:
        hint = did_you_mean(unknown[0], known) if unknown else ""
        raise DataError(f"{kind.__name__}: unknown fields {unknown}{hint}, missing fields {missing}")
    return kind(**{name: decode(known[name], value) for name, value in data.items()})


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """The types of a dataclass's fields, and the names of those without a default."""
    required = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return get_type_hints(kind), required
