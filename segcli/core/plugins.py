"""Find a plugin by its bare name, and check settings against its `build` signature (the signature is the schema).

A plugin is one module that defines `build(*, ...)` with typed keyword-only arguments. Built-in ones are files of
segcli's own folders; other packages add to them under the entry-point group `segcli.plugins`, as `head:NAME`,
`backbone:NAME`, ...
"""

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Container
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic

from segcli.core.errors import UsageError

SEGCLI = Path(__file__).parents[1]
FILES = {  # the files of segcli/ that are plugins of a kind, if they define `build`
    "model": "models/*/*.py",
    "backbone": "models/backbones/*.py",
    "head": "models/rcnn/heads/*.py",
    "field": "fields/*.py",
    "format": "sources/formats/**/*.py",
    "synthetic": "sources/synthetic/*.py",
    "metric": "metrics/*.py",
    "augmentation": "data/augment/*.py",
    "view": "explain/views/*.py",
}
GROUP = "segcli.plugins"
ANY_TYPE = pydantic.ConfigDict(arbitrary_types_allowed=True)  # a plugin may take what only Python can pass


@functools.cache
def builtin(kind: str) -> dict[str, str]:
    """Name -> module of the plugins of one kind in segcli itself. Reads the files, imports none."""
    other = {SEGCLI / files for name, files in FILES.items() if name != kind}
    found: dict[str, str] = {}
    for path in sorted(SEGCLI.glob(FILES[kind])):
        if path.parent / "*.py" not in other and re.search(r"^def build\(", path.read_text(encoding="utf-8"), re.M):
            found[path.stem] = ".".join(["segcli", *path.relative_to(SEGCLI).with_suffix("").parts])
    return found


def names(kind: str) -> list[str]:
    """The plugin names of one kind, built-in and installed, sorted."""
    return sorted(builtin(kind).keys() | _installed(kind).keys())


def find(kind: str, name: str, where: str = "") -> ModuleType:
    """The plugin module called `name`. Raises UsageError with the nearest name; `where` names file and key."""
    return _module(kind, name, _installed(kind), where)


def every(kind: str, asked: Container[str] | None = None) -> dict[str, ModuleType]:
    """Name -> module of all plugins of one kind, sorted; asked: of those that are installed only these."""
    installed = {n: point for n, point in _installed(kind).items() if asked is None or n in asked}
    return {name: _module(kind, name, installed) for name in sorted(builtin(kind).keys() | installed.keys())}


def _module(kind: str, name: str, installed: dict[str, importlib.metadata.EntryPoint], where: str = "") -> ModuleType:
    own = builtin(kind).get(name)
    if own and name in installed:
        raise UsageError(
            f"the installed plugin {kind}:{name} ({installed[name].value}) has the name of a built-in {kind}",
            hint="give the plugin another name, or uninstall it",
        )
    if not own and name not in installed:
        raise UsageError(
            f"{where + ': ' if where else ''}no {kind} is called {name!r}", hint=nearest(name, names(kind))
        )
    if own:
        module = importlib.import_module(own)
    else:
        try:
            module = _loaded(installed[name])
        except Exception as error:
            raise UsageError(
                f"the plugin {kind}:{name} ({installed[name].value}) can't be imported: {error}"
            ) from error
    if not callable(getattr(module, "build", None)):
        raise UsageError(f"the plugin {kind}:{name} ({module.__name__}) defines no build(...)")
    return module


def call(build: Callable[..., Any], settings: dict[str, Any], where: str, **given: Any) -> Any:
    """`build(**given, **settings)` after checking `settings` against the signature, annotated types included.

    An argument whose type is a dataclass is a section: a mapping whose keys are the dataclass's fields, checked alike;
    one that is not there has its defaults. A name that Python reserves ends with an underscore in code alone
    (`class_`).

    `given` are the arguments that segcli supplies (class counts, channels); a plugin takes those it names. Raises
    UsageError that lists every unknown, missing or mistyped key with `where` and the nearest valid key.
    """
    problems: list[str] = []
    built = _call(build, settings, where, given, problems)
    if problems:
        raise UsageError("; ".join(problems))
    return built


def _call(
    build: Callable[..., Any], settings: dict[str, Any], where: str, given: dict[str, Any], problems: list[str]
) -> Any:
    """See `call`; without a result where it adds to `problems`."""
    parameters = inspect.signature(build).parameters
    types = typing.get_type_hints(build, include_extras=True)
    names = {name.rstrip("_"): name for name in parameters if name not in given}
    sections = [key for key, name in names.items() if dataclasses.is_dataclass(types.get(name))]
    before = len(problems)
    arguments = {}
    for key, value in {**dict.fromkeys(sections), **settings}.items():
        if key not in names:
            problems.append(f"{where}.{key} is not a setting here ({nearest(key, [*names])})")
        elif key in sections and isinstance(value, dict | None):
            arguments[names[key]] = _call(types[names[key]], value or {}, f"{where}.{key}", {}, problems)
        else:
            kind = dict[str, Any] if key in sections else types.get(names[key], Any)
            try:
                arguments[names[key]] = pydantic.TypeAdapter(kind, config=ANY_TYPE).validate_python(value)
            except pydantic.ValidationError as error:
                mistake = error.errors()[0]["msg"].lower().replace("valid dictionary", "mapping of keys to values")
                mistake = mistake.removeprefix("value error, ")
                problems.append(f"{where}.{key}: {mistake}, not {value!r}")
    for key, name in names.items():
        if parameters[name].default is inspect.Parameter.empty and name not in arguments and key not in settings:
            problems.append(f"{where}.{key} is missing")
    if len(problems) > before:
        return None
    return build(**{k: v for k, v in given.items() if k in parameters}, **arguments)


def defaults(build: Callable[..., Any]) -> dict[str, object]:
    """The settings of a plugin and their defaults, those of a section as "section.key"; `inspect.Parameter.empty` for
    one without."""
    types = typing.get_type_hints(build)
    found: dict[str, object] = {}
    for name, parameter in inspect.signature(build).parameters.items():
        key, kind = name.rstrip("_"), types.get(name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            found |= {f"{key}.{inner}": default for inner, default in defaults(kind).items()}
        else:
            found[key] = parameter.default
    return found


def nearest(word: str, choices: list[str]) -> str:
    """A short hint: the choice most like `word`, or the first choices."""
    close = difflib.get_close_matches(word[:200], choices, 1, 0.5)  # its time grows with the square of the length
    if close:
        return f"did you mean {close[0]!r}?"
    return "choose from: " + ", ".join(sorted(choices)[:20]) if choices else "there is nothing to choose from"


def _loaded(point: importlib.metadata.EntryPoint) -> Any:
    """The plugin of another package."""
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "another package"
    _tell(f"note: the plugin {point.name} ({point.value}) is code of {package}")
    return point.load()


@functools.cache
def _tell(text: str) -> None:  # once
    print(text, file=sys.stderr)


def registered() -> tuple[importlib.metadata.EntryPoint, ...]:
    """What installed packages register under `segcli.plugins`."""
    places = [os.path.abspath(place) for place in sys.path]
    return _read(tuple((place, os.stat(place).st_mtime_ns) for place in places if os.path.exists(place)))


@functools.lru_cache(maxsize=1)
def _read(places: tuple[tuple[str, int], ...]) -> tuple[importlib.metadata.EntryPoint, ...]:
    """Once, until `places`, the search path's folders with the times of their last change, are others: a file of every
    package is read for it, and a model asks a dozen times."""
    return tuple(importlib.metadata.entry_points(group=GROUP))


def packages() -> set[str]:
    """The top-level packages that others' plugins stand in."""
    return {point.module.partition(".")[0] for point in registered()}


def _installed_properly(point: importlib.metadata.EntryPoint) -> bool:
    """Not what lies in the working folder by chance, where that is on the search path ("", so a relative place)."""
    return point.dist is None or Path(str(point.dist.locate_file(""))).is_absolute()


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "a package"


def _installed(kind: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Name -> what a package has registered. Raises UsageError where two packages mean different plugins by one."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in registered():
        if not _installed_properly(point):
            continue
        own_kind, _, name = point.name.partition(":")
        if own_kind not in FILES or not name:
            raise UsageError(
                f"{_package(point)} registers {point.name!r} ({point.value}), and a plugin is called KIND:NAME",
                hint=nearest(own_kind, list(FILES)),
            )
        if own_kind != kind:
            continue
        other = found.setdefault(name, point)
        if other.value != point.value:
            both = " and ".join(f"{_package(p)} ({p.value})" for p in (other, point))
            raise UsageError(f"two packages have a plugin {point.name}: {both}", hint="uninstall one of them")
    return found
