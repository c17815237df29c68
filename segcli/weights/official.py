"""Official checkpoints: where they are, how they are checked, under which licence. Loaded when first named."""

import dataclasses
import re
import sys
from pathlib import Path

import pydantic

from segcli.core.downloads import cache_dir, fetch
from segcli.core.errors import ModelError
from segcli.core.files import parsed
from segcli.core.plugins import nearest
from segcli.core.yaml_file import read_yaml


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """source: the key layout, as in `load_weights`, or `backbone` for a trunk alone. megabytes: where it is published.
    frozen_eps: the eps of the frozen norms that the weights were made with, where it is not the usual 1e-5."""

    address: str
    source: str
    licence: str
    megabytes: float | None = None
    frozen_eps: float | None = None
    classes: str | None = None  # whose class names it predicts: see class_rows.official_info

    @property
    def digests(self) -> dict[str, str]:
        """The first digits of the file's digest, which torchvision and DETR (sha256) and MaskFormer (md5) put into its
        name. {} where none is known; Hugging Face states it with every download."""
        name = self.address.rsplit("/", 1)[-1]
        if match := re.search(r"-([0-9a-f]{8})\.pth$", name):
            return {"sha256": match[1]}
        if match := re.search(r"_([0-9a-f]{6})\.pkl$", name):
            return {"md5": match[1]}
        return {}


class File(pydantic.BaseModel, extra="forbid"):
    """One file of a publisher in official.yaml."""

    file: str
    megabytes: float | None = None
    frozen_eps: float | None = None
    classes: str | None = None


class Publisher(pydantic.BaseModel, extra="forbid"):
    """What a publisher's files have in common."""

    address: str
    source: str
    licence: str
    files: dict[str, File]

    def checkpoints(self) -> dict[str, Checkpoint]:
        return {
            name: Checkpoint(
                *(self.address + one.file, self.source, self.licence, one.megabytes, one.frozen_eps, one.classes)
            )
            for name, one in self.files.items()
        }


_FILE = Path(__file__).with_name("official.yaml")
_PUBLISHERS: list[Publisher] = parsed(list[Publisher], read_yaml(_FILE), _FILE)
TABLE = {name: one for publisher in _PUBLISHERS for name, one in publisher.checkpoints().items()}


def official_of(recipe: Path) -> str | None:
    """The official checkpoint of a paper's recipe, by their names: coco/detr_r50.yaml -> detr/r50,
    ade20k/maskformer_r50.yaml -> maskformer/ade20k_r50; None where there is none."""
    family, _, kind = recipe.stem.partition("_")
    data = recipe.parent.name
    names = (f"{family}/{kind}", f"{family}/{data}_{kind}", f"maskformer/{data}_{recipe.stem}")
    return next((name for name in names if name in TABLE), None)


def find(name: str | Path) -> Checkpoint | None:
    """The official checkpoint of that name, or the one whose file it is by a file name that bears its digest."""
    if not Path(name).is_file():
        return TABLE.get(str(name))
    file = Path(name).name
    return next((c for c in TABLE.values() if c.digests and c.address.endswith(f"/{file}")), None)


def licence(name: str | Path) -> str:
    """The licence of an official checkpoint, by its name or file; `unknown` for others."""
    known = find(name)
    return known.licence if known else "unknown"


def cached(name: str) -> Path | None:
    """The file of an official checkpoint that was loaded before; None where it was not, or by half."""
    return next((target for _, target in _files(name, TABLE[name]) if target.is_file()), None)


def _files(name: str, known: Checkpoint) -> list[tuple[str, Path]]:
    """(address, file in the cache) of a checkpoint: of those that it may be, the best first."""
    addresses = [known.address]
    if known.source == "huggingface":  # older repositories there have torch's format alone
        addresses.append(known.address.replace("model.safetensors", "pytorch_model.bin"))
    return [(address, cache_dir() / "weights" / name / address.rsplit("/", 1)[-1]) for address in addresses]


def resolve(name: str | Path, *, progress: bool = True) -> Path:
    """The file of that path, or the official checkpoint of that name, loaded into the cache when it is not there.

    Says the licence on stderr before a download. Raises ModelError for an unknown name with the nearest one, or when
    the file can't be had.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = find(str(name))
    if known is None and (path / "config.json").is_file():
        raise ModelError(
            f"{name}: a folder of transformers, and no weight file",
            hint=f"model: {{name: transformers, checkpoint: {name}}}, without init; detr and maskformer take its "
            "model.safetensors",
        )
    if known is None:
        what = "no such weight file" if path.suffix else "neither a weight file nor the name of an official checkpoint"
        raise ModelError(f"{name}: {what}", hint=nearest(str(name), list(TABLE)))
    if (there := cached(str(name))) is not None:
        return there
    files = _files(str(name), known)
    size = f", {known.megabytes:.0f} MB" if known.megabytes else ""
    print(f"note: loading {name}{size}, licence {known.licence}, from {known.address}", file=sys.stderr)
    digests = known.digests
    try:
        return fetch(*files[0], progress=progress, sha256=digests.get("sha256"), md5=digests.get("md5"))
    except ModelError as error:
        if len(files) == 1 or "answers 404" not in str(error):
            raise
    return fetch(*files[1], progress=progress)
