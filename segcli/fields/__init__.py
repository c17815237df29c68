"""The kinds of per-instance data that are known: plugins of the kind `field`, whose `build()` gives a class."""

import functools
from collections.abc import Mapping

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.plugins import call, find, names
from segcli.types import Field, Keyed, Labelled, Moved, Placed


@functools.cache
def field(name: str) -> type[Field]:
    """The field plugin of that name. Raises UsageError where there is none, or it is no field."""
    kind = call(find("field", name).build, {}, f"field {name}")
    if not isinstance(kind, type) or not issubclass(kind, Field):
        raise UsageError(f"the field plugin {name} builds {kind!r:.80}, which is no segcli.types.Field")
    return kind


def fields_of(info: DatasetInfo) -> dict[str, type[Field]]:
    """Name -> class of those fields that a dataset has labels of and that are known here."""
    return {name: field(name) for name in info.fields if name in names("field")}


@functools.cache
def by_key() -> dict[str, tuple[str, type[Field]]]:
    """Key of an annotation -> name and class of the field that reads it."""
    known = [(name, field(name)) for name in names("field")]
    return {key: (name, kind) for name, kind in known if issubclass(kind, Keyed) for key in kind.reads()}


def labelled_in(annotation: Mapping[str, object]) -> dict[str, type[Field]]:
    """The known fields that an annotation has labels of, by name."""
    return dict(by_key()[key] for key in annotation if key in by_key() and annotation[key])


def declarable(annotation: Mapping[str, object]) -> list[str]:
    """The names of the known fields, beside keypoints, that an annotation has labels to learn from of."""
    known = labelled_in(annotation).items()
    return [name for name, k in known if name != "keypoints" and issubclass(k, Labelled) and k.labelled([annotation])]


def moved(annotation: Mapping[str, object], placed: Placed) -> dict[str, object]:
    """What changes in an annotation's fields on another image.

    Raises UsageError for a known field that can't follow, ValueError for a malformed label.
    """
    out: dict[str, object] = {}
    for name, kind in labelled_in(annotation).items():
        if not issubclass(kind, Moved):
            raise UsageError(f"{name} of annotation {annotation.get('id')} can't be cut or resized")
        out |= kind.moved(annotation, placed)
    return out
