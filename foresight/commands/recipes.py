"""Recipes that come with foresight are found by name: `--config jsonl`, or `--config train/jsonl`."""

from __future__ import annotations

from pathlib import Path

from ..common.errors import ConfigError, did_you_mean

FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parents[2] / "recipes")
"""Where they are: in an installed package, and in a checkout."""


def located(recipe: str | Path) -> Path:
    """The file of a recipe: a path, or else the name of one that comes with foresight.

    Raises:
        ConfigError: there is neither, or the name has several; the message says what there is.
    """
    path, name = Path(recipe), str(recipe)
    if path.exists() or path.suffix in (".yaml", ".yml"):
        return path
    known = shipped()
    found = [key for key in known if name in (key, key.rpartition("/")[2])]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise ConfigError(f"several recipes are called {name!r}: {', '.join(found)}")
    names = [*known, *(key.rpartition("/")[2] for key in known)]
    raise ConfigError(
        f"no recipe {name!r}{did_you_mean(name, names)}; expected the path of a YAML file, or one of {', '.join(known)}"
    )


def shipped() -> dict[str, Path]:
    """Name, as in ``train/jsonl`` -> file."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
    return {str(file.relative_to(folder).with_suffix("")): file for file in sorted(folder.rglob("*.yaml"))}
