"""YAML read safely: plain values alone, and no more of them than a file of settings has."""

import copy
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from segcli.core.errors import DataError, SegcliError
from segcli.core.files import DEEPEST, read_text

LARGEST = 4 * 2**20  # bytes; the parser is slow, and recipes have some hundred lines
MOST_VALUES = 200_000  # of a YAML document, aliases counted as often as they are used


class Loader(yaml.SafeLoader):
    """The safe loader, with three differences: 1e-4 is a number, a date is text, a key given twice is an error."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                keys.add(key.value)
        return node


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


@functools.lru_cache(maxsize=128)
def _once(text: str) -> object:
    return yaml.load(text, Loader=Loader)


def _load(text: str) -> object:
    return copy.deepcopy(_once(text))  # recipes extend each other, and parsing is slow: a base is parsed once


def read_yaml(path: Path, *, error: type[SegcliError] = DataError, load: Callable[[str], object] = _load) -> Any:
    """The content of a YAML file, plain values alone. Raises `error`."""
    return parse_yaml(read_text(path, error=error, largest=LARGEST), str(path), error=error, load=load)


def parse_yaml(
    text: str, where: str, *, error: type[SegcliError] = DataError, load: Callable[[str], object] = _load
) -> Any:
    """YAML text as dicts, lists, strings, numbers, booleans and None. Raises `error` that begins with `where`: also for
    aliases that contain themselves or multiply beyond MOST_VALUES, and for other kinds of values (binary, sets).
    load: what parses, where other words than in recipes are numbers, booleans and None."""
    try:
        value = load(text)
        _count(value, (), [MOST_VALUES])
        return value
    except RecursionError:
        raise error(f"{where}: not valid YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as problem:
        raise error(f"{where}: not valid YAML: {_yaml_problem(problem)}") from problem


def _count(value: object, around: tuple[int, ...], left: list[int]) -> None:
    """Raise ValueError for what is no plain value, for a value inside itself, and where there are more than `left`."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    if isinstance(value, (dict, list)):
        if id(value) in around:
            raise ValueError("an alias that contains itself")
        if len(around) >= DEEPEST:
            raise RecursionError
        around = (*around, id(value))
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise ValueError(f"the key {key!r:.80} is no plain value")
            _text(key)
            _count(inner, around, left)
    elif not isinstance(value, (str, int, float, bool, type(None))):
        raise ValueError(f"{value!r:.80} is no text, number, list or mapping")
    _text(value)


def _text(value: object) -> None:
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, int):
        str(value)  # a number of more digits than Python prints


def _yaml_problem(problem: Exception) -> str:
    mark = getattr(problem, "problem_mark", None)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return " ".join(str(getattr(problem, "problem", None) or problem).split()) + place
