"""The keys that `--set` takes, dotted: those of every recipe, and those of one."""

import typing
from collections.abc import Iterator, Mapping

from segcli.core.recipe.recipe import Recipe, Settings


def keys(own: Mapping[str, object]) -> list[str]:
    """Dotted keys of the schema and of the nested mapping `own`, such as `train.optimizer.lr`, sorted. Sections whose
    keys are those of a plugin (model, data.augment) are as `own` has them."""
    return sorted({*_declared(Recipe, ""), *_written(own, "")})


def _declared(section: type[Settings], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = [field.annotation, *typing.get_args(field.annotation)]
        parts = [one for one in inner if isinstance(one, type) and issubclass(one, Settings)]
        for part in parts:
            yield from _declared(part, f"{prefix}{name}.")
        if not parts:
            yield prefix + name


def _written(section: Mapping[str, object], prefix: str) -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _written(value, f"{prefix}{name}.")
        else:
            yield prefix + name
