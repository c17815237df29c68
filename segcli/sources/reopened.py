"""A prepared folder as a source, to be mended and written again."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

from segcli.core.coco_json import Annotation, ImageEntry, PanopticEntry
from segcli.core.dataset_info import DatasetInfo
from segcli.core.files import inside, read_bytes, resolve
from segcli.core.trust import images_of
from segcli.data import annotations as coco_file
from segcli.data import canonical, index
from segcli.data.canonical import Draft, Record
from segcli.data.rescale_labels import UNKNOWN


def reopened(root: Path) -> Draft:
    """A prepared folder as a draft of the same splits, to be written again; the draft's notes say what belongs to no
    image. Raises DataError where an annotation file can't be read: that can't be mended.
    """
    info = DatasetInfo.load(root)
    place = images_of(root, info.image_root)
    place = dataclasses.replace(place, folder=place.folder.absolute())
    splits: dict[str, list[_Entry]] = {}
    lost = 0
    notes: list[str] = list(canonical.prepared(root).get("notes", []))
    for split in info.splits:
        file = root / "annotations" / f"{split}.json"
        known = index.load(file)
        images, annotations = (known.images, []) if known is not None else coco_file.load(file)
        grouped: dict[str, list[Annotation]] = {}
        for annotation in annotations:
            grouped.setdefault(_key(annotation.get("image_id")), []).append(annotation)
        segments: dict[str, PanopticEntry] = {}
        if info.panoptic:
            entries = coco_file.load_panoptic(root / "panoptic" / f"{split}.json")
            segments = {str(entry.get("image_id")): entry for entry in entries}
        splits[split] = []
        aside: set[str] = set()
        for i, image in enumerate(images):
            name = str(image.get("file_name") or "")
            if next(coco_file.name_problems([image]), None):
                notes.append(f"{split}: the image {name!r} is left out: its file_name is no path")
                aside.add(_key(image.get("id")))
                continue
            own: _Labels = functools.partial(known.annotations, i) if known else grouped.pop(str(image.get("id")), [])
            entry = segments.get(str(image.get("id")))
            splits[split].append(
                _Entry(name, root, place.path(name, file), split, image, own, entry, info, place.trusted)
            )
        for annotation in itertools.chain.from_iterable(grouped.values()):
            key, image_id = annotation.get("id"), annotation.get("image_id")
            why = "so is its image" if _key(image_id) in aside else f"image id {image_id!r} is not listed"
            notes.append(f"{split}: annotation {key} is left out: {why}")
            lost += 1
    return Draft(
        dataclasses.replace(info, image_root=None),
        splits,
        lambda entries: (entry.record() for entry in entries),
        place.folder,
        notes,
        lost=lost,
        masks=canonical.prepared(root).get("masks", {}),
        files=side_files(root),
    )


def side_files(root: Path) -> dict[str, Path | bytes]:
    """Name -> path of the side files of a prepared folder; links that lead out are none of them."""
    folder = root / canonical.FILES
    found = [path for path in folder.rglob("*") if path.is_file() and inside(path, folder)]
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


def _key(image_id: object) -> str:
    """What an image and its annotations have in common: 7, 7.0 and "7" are one."""
    return str(int(image_id)) if isinstance(image_id, float) and image_id.is_integer() else str(image_id)


_Labels = list[Annotation] | Callable[[], list[Annotation]]


@dataclasses.dataclass
class _Entry:
    """One image of a prepared folder. annotations: they, or how to read them; segments: its panoptic entry."""

    file_name: str
    root: Path
    path: Path
    split: str
    image: ImageEntry
    annotations: _Labels
    segments: PanopticEntry | None
    info: DatasetInfo
    trusted: bool

    def record(self) -> Record:
        size = (self.image.get("height"), self.image.get("width"))
        segments = self.segments or PanopticEntry()
        name = canonical.label_name({**self.image, "file_name": self.file_name})
        panoptic = segments.get("file_name") or name
        whole = all(isinstance(side, int) and side > 0 for side in size)
        key = self.image.get("id")

        def read(kind: str, name: object) -> bytes:
            where = f"{kind}/{self.split}: the map of {self.file_name}"
            path = resolve(self.root / kind / self.split, name, where, within=self.root, trusted=self.trusted)
            return read_bytes(path) if path.is_file() else b""

        return Record(
            file_name=self.file_name,
            size=size if whole else UNKNOWN,  # type: ignore[arg-type]
            image=self.path,
            annotations=self.annotations() if callable(self.annotations) else self.annotations,
            id=key if isinstance(key, int) and key >= 0 else None,
            semantic=read("semantic", name) if self.info.semantic else None,
            panoptic=read("panoptic", panoptic) if self.info.panoptic else None,
            segments=list(segments.get("segments_info") or []),
            extra={k: v for k, v in self.image.items() if k not in ("id", "file_name", "width", "height")},
        )
