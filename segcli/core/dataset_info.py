"""What a dataset is: its classes, its splits, where it comes from. The only place where classes are declared."""

import collections
import colorsys
import dataclasses
import typing
from pathlib import Path
from typing import Annotated, Any

import pydantic

from segcli.core.errors import DataError
from segcli.core.files import is_plain, parsed, read_json

VERSION = 1  # of info.json
MOST_CATEGORIES = 32_767  # the largest vocabularies have some 20,000; models and tables grow with every one
Id = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
Byte = Annotated[int, pydantic.Field(ge=0, le=255)]
Count = Annotated[int, pydantic.Field(ge=0, lt=2**63)]
Finite = Annotated[float, pydantic.Field(strict=True, allow_inf_nan=False)]
Place = Annotated[str, pydantic.Field(pattern=r"^[^\x00]+$")]  # a path that a file system can have


@dataclasses.dataclass(frozen=True)
class Category:
    """One class. `source_id` is the id in the files it was converted from; labels inside segcli are list positions."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    name: str
    source_id: Id
    thing: bool = True
    colour: tuple[Byte, Byte, Byte] | None = None  # RGB 0..255
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()  # pairs of 0-based positions in `keypoints`
    flip_pairs: tuple[tuple[int, int], ...] = ()  # keypoints that change places in a mirror image
    upright: bool = False  # keypoints are named by where they lie in the image: a rotation would rename them


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """A dataset's description, stored as `info.json` at the root of the canonical folder.

    Categories are ordered things first, then stuff: label `i` is `categories[i]`, so a label below `num_things` is a
    thing and models need nothing but the two counts.
    """

    name: str
    categories: tuple[Category, ...]
    splits: dict[str, Count]  # split name -> number of images
    licence: str = "unknown"
    citation: str = ""
    source: str = ""
    image_root: Place | None = None  # set by `prepare --link`: images are read from there
    fingerprint: str = ""  # of classes, labels, maps and images (data/fingerprint.py)
    semantic: bool = False  # has semantic/{split}/*.png; without them the views are derived from instances
    panoptic: bool = False  # has panoptic/{split}.json
    value_range: tuple[Finite, Finite] | None = None  # of images of more than 8 bits, see data/value_range.py
    declared: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)  # field name -> what heads are given

    def __post_init__(self) -> None:
        for name in self.splits:
            if not is_plain(name):  # files and folders are called so
                raise DataError(f"dataset {self.name!r:.80}: the split {name!r:.80} can't be the name of a file")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise DataError(
                f"dataset {self.name!r}: value_range {self.value_range} must be a lower and a higher number"
            )
        if not self.categories:
            raise DataError(f"dataset {self.name!r} declares no category")
        if len(self.categories) > MOST_CATEGORIES:
            raise DataError(
                f"dataset {self.name!r} declares {len(self.categories):,} categories, more than {MOST_CATEGORIES:,}"
            )
        twice = sorted(name for name, n in collections.Counter(c.name for c in self.categories).items() if n > 1)
        if twice:
            raise DataError(f"dataset {self.name!r} declares the category {twice[0]!r} twice")
        things = [c.thing for c in self.categories]
        if things != sorted(things, reverse=True):
            raise DataError(f"dataset {self.name!r}: categories must be ordered things first, then stuff")
        for c in self.categories:
            pairs = (*c.skeleton, *c.flip_pairs)
            if not all(len(pair) == 2 and all(type(i) is int for i in pair) for pair in pairs):
                raise DataError(
                    f"dataset {self.name!r}: the skeleton and flip_pairs of {c.name!r} must be pairs of whole numbers"
                )
            wrong = [i for pair in pairs for i in pair if not 0 <= i < len(c.keypoints)]
            if wrong:
                raise DataError(
                    f"dataset {self.name!r}: the skeleton or flip_pairs of {c.name!r} name keypoint {wrong[0]}, and it "
                    f"declares {len(c.keypoints)}, counted from 0"
                )

    @property
    def num_things(self) -> int:
        return sum(c.thing for c in self.categories)

    @property
    def num_keypoints(self) -> int:
        """Of the thing class that declares most."""
        return max((len(c.keypoints) for c in self.categories if c.thing), default=0)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the per-instance data, beside boxes and masks, that objects have labels of."""
        return (*(["keypoints"] if self.num_keypoints else []), *self.declared)

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.categories]

    @property
    def source_ids(self) -> list[int]:
        return [c.source_id for c in self.categories]

    def colours(self) -> list[tuple[int, int, int]]:
        """One RGB colour (0..255) a label: the declared one, or a hue spread evenly by the golden ratio."""
        out = []
        for label, category in enumerate(self.categories):
            hue = (0.07 + label * 0.618034) % 1.0
            r, g, b = colorsys.hsv_to_rgb(hue, 0.75, 0.95 if category.thing else 0.6)
            out.append(category.colour or (round(r * 255), round(g * 255), round(b * 255)))
        return out

    def to_json(self) -> dict[str, object]:
        out = {"version": VERSION, **dataclasses.asdict(self)}
        if self.value_range is None:  # as for every dataset of 8 bits: then earlier versions read it, too
            del out["value_range"]
        if not self.declared:
            del out["declared"]
        return out

    @classmethod
    def from_json(cls, data: object, where: str = "info.json") -> "DatasetInfo":
        """What `to_json` gave. Raises DataError that names `where` and the place inside."""
        if not isinstance(data, dict):
            raise DataError(f"{where}: not a dataset description, but {type(data).__name__}")
        version = data.get("version")
        if version != VERSION:
            raise DataError(
                f"{where}: version {version!r:.80} is not {VERSION}", hint="run `segcli prepare` again with this segcli"
            )
        types = typing.get_type_hints(cls, include_extras=True)
        without = (dataclasses.MISSING, dataclasses.MISSING)
        required = {f.name for f in dataclasses.fields(cls) if (f.default, f.default_factory) == without}
        given = {key: value for key, value in data.items() if key != "version"}
        for key in [*sorted(required - given.keys()), *(key for key in given if key not in types)]:
            raise DataError(f"{where}: {key!r:.80} is {'missing' if key in types else 'no field of it'}")
        listed = given["categories"]
        if isinstance(listed, list) and len(listed) > MOST_CATEGORIES:
            raise DataError(f"{where}: {len(listed):,} categories, more than {MOST_CATEGORIES:,}")
        try:
            return cls(**{key: parsed(types[key], value, f"{where}: {key}") for key, value in given.items()})
        except DataError as error:
            message = str(error)
            raise DataError(message if message.startswith(where) else f"{where}: {message}", hint=error.hint) from error

    @classmethod
    def load(cls, root: str | Path) -> "DatasetInfo":
        """Read `root/info.json`. Raises DataError where it is missing or broken."""
        path = Path(root) / "info.json"
        if not path.exists():
            raise DataError(
                f"{root}: not a prepared dataset (no info.json)", hint=f"segcli prepare SOURCE --out {root}"
            )
        return cls.from_json(read_json(path), str(path))
