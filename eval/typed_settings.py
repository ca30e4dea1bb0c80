"""Writes foresight/training/typed_settings.pyi: the arguments of ForesightConfig, for type checkers.

    python -m eval.typed_settings

They are listed there because a type checker that does not follow TRL would let any argument pass.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from foresight.commands.fields import settings_of, trl_settings
from foresight.training.settings import MaskSettings

STUB = Path(__file__).parents[1] / "foresight" / "training" / "typed_settings.pyi"


def stub() -> str:
    """The text of the file, for the installed TRL and transformers."""
    fields = {**trl_settings(), **settings_of(MaskSettings)}
    typed = [f"    {name}: {_text(setting.hint)}" for name, setting in fields.items()]
    lines = [
        f"# For trl {version('trl')} and transformers {version('transformers')}, by eval/typed_settings.py.",
        f"from typing import Any, {'Literal, ' if 'Literal[' in ''.join(typed) else ''}TypedDict",
        "",
        "class TypedSettings(TypedDict, total=False):",
        *typed,
    ]
    return "\n".join(lines) + "\n"


def _text(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        parts = get_args(hint)
        if str in parts:  # then the choices beside it are texts as well
            parts = tuple(part for part in parts if get_origin(part) is not Literal)
        return " | ".join(dict.fromkeys(map(_text, parts)))
    if hint is type(None):
        return "None"
    if get_args(hint) and get_origin(hint) is not Literal:
        return f"{get_origin(hint).__name__}[{', '.join(map(_text, get_args(hint)))}]"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


if __name__ == "__main__":
    STUB.write_text(stub())
