"""Plug-ins of one kind by name: built-in ones, registered ones, those of installed packages, and `module:Class`.

A package offers its plug-ins under an entry-point group and is imported only when one of their names is asked for.
Nothing can replace a built-in name. `module:Class` imports that module; it is meant for names that users type. Names
that are read from the files of a run or study are looked up within `names_of_files`, which imports nothing.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import ConfigError, UnknownNameError, did_you_mean, known_params

T = TypeVar("T")
C = TypeVar("C", bound=type)
_PATH = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


_OF_FILES: ContextVar[bool] = ContextVar("names come from files", default=False)


@contextmanager
def names_of_files() -> Iterator[None]:
    """While files of a run or study are read: a name in them imports no code but this package's own.

    Plug-ins that the user has loaded already, by a command line or recipe, are found as ever.
    """
    token = _OF_FILES.set(True)
    try:
        yield
    finally:
        _OF_FILES.reset(token)


def part(path: str) -> Any:
    """What `path`, a module of this package and a name in it such as ``training.scout.scout``, stands for.

    Parts of a run that only some settings ask for (limits, scouts, retained rows, corrections, DeepSpeed) are loaded by
    it, so that a run without them neither imports nor has to be read with them.
    """
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"foresight.{module}"), name)


class Registry(Generic[T]):
    """Plug-ins of one kind by name. A plug-in is a subclass of `base`, or an instance of one.

    Args:
        what: the kind, for messages, such as "forecaster".
        base: the base class, or "module:Class" relative to `package`, which is imported when a plug-in is asked for.
        package: where the built-in plug-ins live; also the name of the entry-point group.
        built_in: name -> module of `package` that registers it; just names if each has a module of that name.
        hint: added to the message about something that is not a plug-in.
        group: the entry-point group, if it is not called like the package.
        removed: name in an earlier version -> what to use instead.
    """

    def __init__(
        self,
        what: str,
        base: type[T] | str,
        package: str,
        built_in: Mapping[str, str] | Iterable[str],
        hint: str = "",
        group: str = "",
        removed: Mapping[str, str] | None = None,
    ):
        self.what, self.package, self.hint, self.group, self._base = what, package, hint, group or package, base
        self.built_in = dict(built_in) if isinstance(built_in, Mapping) else {name: name for name in built_in}
        self.removed = dict(removed or {})
        self._registered: dict[str, type[T]] = {}

    @property
    def base(self) -> type[T]:
        """The class that every plug-in derives from."""
        if isinstance(self._base, str):
            module, _, name = self._base.partition(":")
            self._base = getattr(import_module(f"{self.package}.{module}"), name)
        return self._base  # type: ignore[return-value]  # no string any more

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator that makes a class available under `name`. Raises ConfigError if the name is taken."""

        def decorate(cls: C) -> C:
            taken = self._registered.get(name)
            if not (isinstance(cls, type) and issubclass(cls, self.base)):
                raise ConfigError(f"{self.what} {name!r}: {cls!r} is not a subclass of {self._base_name}")
            ours = name not in self.built_in or cls.__module__ == f"{self.package}.{self.built_in[name]}"
            if (taken is not None and taken is not cls) or not ours:
                raise ConfigError(f"{self.what} {name!r} exists already; register {cls.__name__} under another name")
            cls.name = name  # type: ignore[attr-defined]
            self._registered[name] = cls
            return cls  # type: ignore[return-value]  # narrowed to type[T]

        return decorate

    def names(self) -> tuple[str, ...]:
        """Return every known name, sorted. Imports no plug-in."""
        return tuple(sorted({*self.built_in, *self._registered, *self._installed()}))

    def check_name(self, name: str) -> None:
        """Check that a name is known, or has the form `module:Class`, without importing any plug-in.

        Raises:
            UnknownNameError: nothing has that name; the message offers the closest.
            ConfigError: a name that was removed, or a malformed `module:Class`; the message says what to use instead.
        """
        if ":" in name:
            if not _PATH.fullmatch(name):
                raise ConfigError(f"{self.what} {name!r} is not of the form module:Class, such as my_package.mine:Mine")
        elif name not in self.built_in and name not in (known := self.names()):
            if name in self.removed:
                raise ConfigError(f"{self.what} {name!r} was removed; use {self.removed[name]} instead")
            raise UnknownNameError(self.what, name, known)

    def find(self, name: str) -> type[T] | T:
        """Return the class behind a name, or the object that `module:object` or an entry point names.

        Raises:
            UnknownNameError, ConfigError: as `check_name`, and for a module or entry point without such a plug-in.
        """
        self.check_name(name)
        if ":" in name:
            return self._from_path(name)
        if name in self.built_in:
            import_module(f"{self.package}.{self.built_in[name]}")
        return self._registered[name] if name in self._registered else self._from_package(name)

    def origin(self, name: str) -> str:
        """Return where a plug-in comes from: "built-in", its package, or its module. Imports nothing."""
        if name in self.built_in:
            return "built-in"
        if name in self._registered:
            return self._registered[name].__module__
        if name in self._installed():
            return " and ".join(_package(point) for point in self._installed()[name])
        return name.partition(":")[0]

    def build(self, name: str, **params: Any) -> T:
        """Build the plug-in of that name from parameters of its `__init__`; an object is returned as it is.

        Raises:
            UnknownNameError, ConfigError: as `find`, and for a parameter that the plug-in does not have.
        """
        found = self.find(name)
        known_params(self.what, name, params, inspect.signature(found).parameters if isinstance(found, type) else ())
        return found(**params) if isinstance(found, type) else found

    @property
    def _base_name(self) -> str:
        return f"{self.package}.{self.base.__name__}"

    def _from_path(self, path: str) -> type[T] | T:
        module, _, attribute = path.partition(":")
        if _OF_FILES.get() and module not in sys.modules:
            raise ConfigError(
                f"{self.what} {path!r} is named by a file, and only a command line or a recipe can have code imported"
            )
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)  # at the end, so that it shadows no installed package
        try:
            loaded = import_module(module)
        except Exception as error:  # a module may fail in any way
            raise ConfigError(f"{self.what} {path!r}: importing {module!r} failed: {error!r}") from error
        try:
            found = attrgetter(attribute)(loaded)
        except AttributeError as error:
            hint = did_you_mean(attribute, vars(loaded))
            raise ConfigError(f"{self.what} {path!r}: module {module!r} has no {attribute!r}{hint}") from error
        return self._require(path, found)

    def _from_package(self, name: str) -> type[T] | T:
        points = self._installed()[name]
        if len(points) > 1:
            raise ConfigError(f"{self.what} {name!r} is offered by {self.origin(name)}; uninstall one of them")
        if _OF_FILES.get() and points[0].module not in sys.modules:
            raise ConfigError(
                f"{self.what} {name!r} of {self.origin(name)} is named by a file, and is not loaded for it"
            )
        try:
            found = points[0].load()
        except Exception as error:  # third-party code may fail in any way
            raise ConfigError(f"{self.what} {name!r} of {self.origin(name)} cannot be imported: {error!r}") from error
        found = self._require(name, found)
        return self.register(name)(found) if isinstance(found, type) else found

    def _require(self, name: str, found: Any) -> type[T] | T:
        if isinstance(found, self.base) or (isinstance(found, type) and issubclass(found, self.base)):
            return found
        raise ConfigError(
            f"{self.what} {name!r} is {found!r:.200}; expected a subclass of {self._base_name} or an instance of one"
            f"{self.hint}"
        )

    def _installed(self) -> dict[str, list[EntryPoint]]:
        points: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            points.setdefault(point.name, []).append(point)
        return points


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
