"""What can be set: name, type, default and help of every setting, ours and TRL's.

TRL takes seconds to import, so its settings are read from its source code; from the class where there is no source.
"""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .building import default_of

UNKNOWN = ...
"""The default of a setting whose source code computes it."""


@dataclass(frozen=True)
class Setting:
    """One setting: `hint` is its type, as in the annotation of its dataclass field."""

    name: str
    hint: Any
    default: Any
    help: str

    @property
    def alternatives(self) -> tuple[Any, ...]:
        """The types that a value may have; NoneType among them if it may be null."""
        return get_args(self.hint) if get_origin(self.hint) in (Union, UnionType) else (self.hint,)

    def accepts(self, kind: type) -> bool:
        """Whether a value may be of this type, such as dict, list or NoneType."""
        return any((get_origin(hint) or hint) is kind for hint in self.alternatives)

    @property
    def type_name(self) -> str:
        """The type as a reader sees it."""
        return self.hint.__name__ if isinstance(self.hint, type) else str(self.hint).replace("typing.", "")


def settings_of(cls: type) -> dict[str, Setting]:
    """The settings of a dataclass by name, in its order."""
    hints, found = get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        if field.init:
            help = str(field.metadata.get("help", ""))
            found[field.name] = Setting(field.name, hints[field.name], default_of(field), help)
    return found


@cache
def trl_settings(name: str = "SFTConfig") -> dict[str, Setting]:
    """The settings of one of TRL's config classes, without importing TRL if its source code can be read."""
    try:
        return _from_source(name)
    except (OSError, SyntaxError, ValueError, LookupError):
        import trl

        return settings_of(getattr(trl, name))


def _from_source(name: str) -> dict[str, Setting]:
    """Raises one of the errors caught above if the source is not there, or not laid out as expected."""
    trainer, transformers = _folder("trl") / "trainer", _folder("transformers")
    files = [trainer / f"{name.removesuffix('Config').lower()}_config.py", trainer / "base_config.py"]
    files += [transformers / "training_args.py", transformers / "trainer_utils.py"]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    line = [classes[name]]
    while bases := line[0].bases:
        line.insert(0, classes[ast.unparse(bases[0])])
    found = {}
    for node in (node for cls in line for node in cls.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            key, value = node.target.id, node.value
            given = {word.arg: word.value for word in value.keywords} if isinstance(value, ast.Call) else {}
            if _literal(given.get("init")) is not False:
                default = UNKNOWN if "default_factory" in given else _literal(given.get("default", value))
                metadata = _literal(given.get("metadata"))
                help = metadata.get("help", "") if isinstance(metadata, dict) else ""
                found[key] = Setting(key, _hint(node.annotation, classes), default, help.replace("%%", "%"))
    return found


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(package)
    return Path(spec.submodule_search_locations[0])


def _literal(node: ast.expr | None) -> Any:
    try:
        return UNKNOWN if node is None else ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict, "list": list}


def _hint(node: ast.expr, classes: dict[str, ast.ClassDef]) -> Any:
    """The type that an annotation stands for, enumerations as their values; Any for one that is not known."""
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.BinOp(left=left, right=right):
            return Union[_hint(left, classes), _hint(right, classes)]  # noqa: UP007  # of values
        case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
            return Literal[ast.literal_eval(values)]
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return list[_hint(inner, classes)]  # type: ignore[misc]  # of values
        case ast.Subscript(value=ast.Name(id="dict")):
            return dict[str, Any]
        case ast.Name(id=name) if name in classes:
            words = [_literal(line.value) for line in classes[name].body if isinstance(line, ast.Assign)]
            return Literal[tuple(words)] if words else Any
        case ast.Name(id=name):
            return _TYPES.get(name, Any)
    return Any


_RUN = ("tasks.data_config:DataConfig", "model.model_config:ModelConfig", "training.settings:MaskSettings")
_CLASSES = {
    "compare": ("studies.compare.settings:CompareConfig",),
    "demo": ("studies.compare.settings:CompareConfig",),
    "evidence": ("studies.evidence.settings:EvidenceConfig",),
    "track": ("studies.track.settings:TrackConfig", *_RUN),
    "train": _RUN,
    "plan": _RUN,
    "preview": _RUN,
}
"""Where the settings of each command are; only those of the command that runs are loaded."""


def command_classes(command: str) -> tuple[type, ...]:
    """The dataclasses whose fields are the settings of a command, without those of TRL."""
    places = (place.partition(":") for place in _CLASSES[command])
    return tuple(getattr(import_module(f"foresight.{module}"), name) for module, _, name in places)


def command_settings(command: str) -> dict[str, Setting]:
    """Every setting of a command by name: ours, then TRL's where the command trains with them."""
    ours = {name: one for cls in command_classes(command) for name, one in settings_of(cls).items()}
    return ours | {name: one for name, one in trl_of(command).items() if name not in ours}


def trl_of(command: str) -> dict[str, Setting]:
    """TRL's settings of a command by name; none if it takes them only inside its setting `training`."""
    return trl_settings() if command in ("train", "plan", "preview", "track") else {}
