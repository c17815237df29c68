"""The only reader of a canonical dataset folder (see docs/architecture.md): images, targets, raw annotations."""

import copy
import dataclasses
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation, CocoFile, PanopticEntry, Rle, as_json
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.core.files import resolve
from segcli.core.plugins import nearest
from segcli.core.tasks import TASKS
from segcli.core.trust import images_of
from segcli.data import annotations as coco_file
from segcli.data import index, views
from segcli.data.canonical import FILES, label_name
from segcli.data.image import read_image
from segcli.data.split_file import named_images
from segcli.types import Checked, Field, Instances, Origin, Panoptic, Sample, Target, ignore_label


@dataclasses.dataclass(slots=True)
class ImageRecord:
    """One image as its annotation file has it. `split` is that file's, also where a split file says otherwise.
    label_map: the name of its semantic PNG.

    held: its annotations, or (file, first byte, end) where they stand.
    """

    id: int
    file_name: str
    size: tuple[int, int]
    split: str
    label_map: str
    held: list[Annotation] | tuple[Path, int, int]
    without_mask: int = 0

    @property
    def annotations(self) -> list[Annotation]:
        return self.held if isinstance(self.held, list) else index.read_span(*self.held, self.id)


class Dataset:
    """The images of one split and what is labelled on them.

    root: the canonical folder. split: a name from info.json, None = all images. split_file: a text file of image names,
    one a line (folder and suffix may be left out): those are "val", all other images of every split "train".
    task: "semantic" and "panoptic" also fill Target.semantic; "panoptic" fills Target.panoptic too. fields: name ->
    types.Field class that is read from the annotations into Instances.fields.

    Attributes: info, root, split, image_ids, file_names, sizes [(h, w)], has_masks, and `dropped`: ids of annotations
    met so far whose mask or box is empty on its image; they are left out of targets, with one warning.
    Raises DataError that names the file and the annotation or image where anything is inconsistent.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        split_file: str | Path | None = None,
        task: str = "instance",
        fields: dict[str, type[Field]] | None = None,
    ):
        self.root, self.split, self.task, self.fields = Path(root), split, task, dict(fields or {})
        self.info = DatasetInfo.load(self.root)
        self.images = images_of(self.root, self.info.image_root)
        self.ignore = ignore_label(len(self.info.categories))
        self.dropped: list[int | None] = []
        self._warned = False
        self._labels = {source: label for label, source in enumerate(self.info.source_ids)}
        splits = list(self.info.splits)
        if split is not None and split_file is None:
            if split not in splits:
                raise DataError(f"{self.root}: no split is called {split!r}", hint=nearest(split, splits))
            splits = [split]
        self._records = [record for name in splits for record in self._load(name)]
        if len(splits) > 1:
            self._check_unique()
        if split_file is not None:
            if split not in (None, "train", "val"):
                raise UsageError(f"{split_file}: a split file divides images into train and val, not {split!r}")
            val = named_images(Path(split_file), [r.file_name for r in self._records])
            kept = {None: (False, True), "train": (False,), "val": (True,)}[split]
            self._records = [r for i, r in enumerate(self._records) if (i in val) in kept]
        if not self._records:
            by = f" by {split_file}" if split_file is not None else ""
            raise DataError(f"{self.root}: the split {split or 'of all images'!r} has no image{by}")
        for field in self.fields.values():
            if issubclass(field, Checked):
                for name, own in itertools.groupby(self._records, lambda r: r.split):
                    problems = (p for r in own for p in field.problems(r.annotations, self.origin(r)))
                    coco_file.refuse(
                        self.root / "annotations" / f"{name}.json", problems, "mend them there, or in the source"
                    )
        self.image_ids = [r.id for r in self._records]
        self.file_names = [r.file_name for r in self._records]
        self.sizes = [r.size for r in self._records]
        self.has_masks = self._check_masks()
        self._panoptic = self._load_panoptic() if self.info.panoptic and TASKS[task].stuff else {}

    def viewed_as(self, task: str) -> "Dataset":
        """The same images with what another task needs of their labels."""
        other = copy.copy(self)
        other.task = task
        other._panoptic = other._load_panoptic() if self.info.panoptic and TASKS[task].stuff else {}
        return other

    def __len__(self) -> int:
        return len(self._records)

    def first(self, count: int) -> "Dataset":
        """The same split, cut to its first images."""
        out = copy.copy(self)
        out._records = self._records[:count]
        out.image_ids, out.file_names, out.sizes = self.image_ids[:count], self.file_names[:count], self.sizes[:count]
        return out

    def path(self, i: int) -> Path:
        """The image file. Raises DataError where it lies outside of the dataset."""
        record = self._records[i]
        return self.images.path(record.file_name, self.root / "annotations" / f"{record.split}.json")

    def image(self, i: int) -> np.ndarray:
        """uint8 RGB [H,W,3]. Raises DataError where it can't be read or is not of the annotated size."""
        image = read_image(self.path(i), self.info.value_range)
        if image.shape[:2] != self.sizes[i]:
            (h, w), (ah, aw) = image.shape[:2], self.sizes[i]
            turned = (h, w) == (aw, ah)
            raise DataError(
                f"{self.path(i)}: the image is {w} x {h}, its annotations say {aw} x {ah}",
                hint="the labels were made on the image before its EXIF rotation" if turned else None,
            )
        return image

    def annotations(self, i: int) -> list[Annotation]:
        """The raw COCO annotations of image i."""
        return self._records[i].annotations

    def each_annotations(self) -> Iterator[list[Annotation]]:
        """The raw annotations image by image: never those of a whole split at once."""
        return (record.annotations for record in self._records)

    def target(self, i: int) -> Target:
        """Image i's labels on its own pixels, masks as bool [N,H,W]; the image is not read."""
        return decoded(self.encoded_target(i))

    def read(self, i: int) -> Sample:
        """Image i with its target."""
        sample = self.encoded(i)
        return dataclasses.replace(sample, target=decoded(sample.target))

    def encoded(self, i: int) -> Sample:
        """Like `read`, with masks as RLE: what is small enough to keep for many images."""
        return Sample(self.image(i), self.encoded_target(i), self.file_names[i], self.sizes[i])

    def encoded_target(self, i: int) -> Target:
        """Like `target`, with masks as RLE."""
        return self.annotated_target(i)[0]

    def annotated_target(self, i: int) -> tuple[Target, list[Annotation]]:
        """`encoded_target`, and the raw annotation of each of its instances, in their order."""
        record = self._records[i]
        everything, kept = self._instances(record)
        things = everything.labels < self.info.num_things
        instances = everything if bool(things.all()) else everything[things]
        semantic, panoptic = self._maps(record, everything)
        labels = None if semantic is None else torch.from_numpy(semantic.astype(np.int64))
        own = [annotation for annotation, thing in zip(kept, things.tolist(), strict=True) if thing]
        return Target(record.id, record.size, instances, labels, panoptic, self.ignore), own

    def coco(self) -> CocoFile:
        """The split's things as one COCO ground truth: category id = label + 1, annotation ids from 1 up (COCO's own
        evaluation mistakes id 0 for "unmatched"), masks as RLE with text counts, areas by `annotations.area_of`."""
        out: list[Annotation] = []
        for record in self._records:
            instances, kept = self._instances(record)
            boxes = instances.boxes.tolist()
            for i, annotation in enumerate(kept):
                label, (x1, y1, x2, y2) = int(instances.labels[i]), boxes[i]
                if label >= self.info.num_things:
                    continue
                entry: Annotation = {
                    "id": len(out) + 1,
                    "image_id": record.id,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": int(bool(annotation.get("iscrowd"))),
                }
                if isinstance(instances.masks, list):
                    rle = instances.masks[i]
                    entry["segmentation"] = as_json(rle)
                out.append({**entry, "area": annotation["area"]})
        return {
            "images": [
                {"id": r.id, "file_name": r.file_name, "height": r.size[0], "width": r.size[1]} for r in self._records
            ],
            "annotations": out,
            "categories": [
                {"id": label + 1, "name": c.name} for label, c in enumerate(self.info.categories) if c.thing
            ],
        }

    def _load(self, split: str) -> list[ImageRecord]:
        path = self.root / "annotations" / f"{split}.json"
        known = index.load(path)
        if known is not None:
            coco_file.refuse(path, coco_file.name_problems(known.images))
        if known is not None and set(np.unique(known.category).tolist()) <= self._labels.keys():
            bare = np.concatenate([[0], np.cumsum(~known.mask)])[known.first]
            spans, bare = known.starts.tolist(), np.diff(bare).tolist()
            return [
                ImageRecord(
                    image["id"],
                    image["file_name"],
                    (image["height"], image["width"]),
                    split,
                    label_name(image),
                    (path, spans[i], spans[i + 1]),
                    bare[i],
                )
                for i, image in enumerate(known.images)
            ]
        images, annotations = coco_file.load(path)
        coco_file.refuse(path, coco_file.image_problems(images))
        sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        coco_file.refuse(path, coco_file.annotation_problems(annotations, sizes, set(self._labels)))
        grouped: dict[int, list[Annotation]] = {key: [] for key in sizes}
        for annotation in annotations:
            grouped[annotation["image_id"]].append(annotation)
        return [
            ImageRecord(i["id"], i["file_name"], sizes[i["id"]], split, label_name(i), own, sum(map(_bare, own)))
            for i in images
            for own in [grouped[i["id"]]]
        ]

    def _check_unique(self) -> None:
        by_id: dict[int, ImageRecord] = {}
        for record in self._records:
            other = by_id.setdefault(record.id, record)
            if other is not record:
                raise DataError(
                    f"{self.root}: image id {record.id} is {other.file_name} in the split {other.split!r} and "
                    f"{record.file_name} in {record.split!r}",
                    hint="run `segcli prepare` again: it numbers images over all splits",
                )

    def _check_masks(self) -> bool:
        """Whether every annotation has a mask. Raises DataError where the task needs them."""
        without = sum(r.without_mask for r in self._records)
        mapped = self.info.semantic or self.info.panoptic
        if without and TASKS[self.task].masks and not (TASKS[self.task].stuff and mapped):
            record = next(r for r in self._records if r.without_mask)
            annotation = next(a for a in record.annotations if not a.get("segmentation"))
            raise DataError(
                f"{self.root}/annotations/{record.split}.json: annotation {annotation.get('id')} ({record.file_name}) "
                f"has no segmentation, as have {without} in all, and task {self.task!r} needs masks",
                hint="set task: detection, or leave those annotations out",
            )
        return not without

    def _instances(self, record: ImageRecord) -> tuple[Instances, list[Annotation]]:
        """Things and stuff regions of one image that are not empty, masks as RLE, and their raw annotations."""
        annotations = record.annotations
        try:
            instances, kept = self._decoded(record, annotations)
            wrong: Exception | None = None if bool(torch.isfinite(instances.boxes).all()) else ValueError("not finite")
        except DataError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RuntimeError) as error:
            wrong = error  # spans of an indexed file are read only now, and unchecked, for the sake of speed
        if wrong is None:
            return instances, kept
        sizes = {record.id: record.size}
        problem = next(coco_file.annotation_problems(annotations, sizes, set(self._labels)), str(wrong))
        raise DataError(f"{self.root}/annotations/{record.split}.json: {record.file_name}: {problem}") from wrong

    def _decoded(self, record: ImageRecord, annotations: list[Annotation]) -> tuple[Instances, list[Annotation]]:
        """`_instances` of annotations that are as they should be."""
        h, w = record.size
        kept: list[Annotation] = []
        boxes: list[list[float]] = []
        masks: list[Rle] = []
        rles = self._encode([a for a in annotations if a.get("segmentation")], record)
        tight = iter(zip(rles, coco_mask.toBbox(rles).tolist() if rles else [], strict=True))
        for annotation in annotations:
            rle, (x, y, bw, bh) = next(tight) if annotation.get("segmentation") else (None, annotation["bbox"])
            box = [min(max(x, 0), w), min(max(y, 0), h), min(max(x + bw, 0), w), min(max(y + bh, 0), h)]
            if box[2] <= box[0] or box[3] <= box[1]:
                self._drop(annotation, record)
                continue
            kept.append({**annotation, "area": coco_file.area_of(annotation, record.size, rle)})
            boxes.append(box)
            masks += [] if rle is None else [rle]
        instances = Instances(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([self._labels[a["category_id"]] for a in kept], dtype=torch.int64),
            crowd=torch.tensor([bool(a.get("iscrowd")) for a in kept], dtype=torch.bool),
            masks=masks if self.has_masks else None,
            fields={name: field.read(kept, self.origin(record)) for name, field in self.fields.items()},
        )
        return instances, kept

    def origin(self, record: ImageRecord) -> Origin:
        """Where an image's annotations come from, for its fields."""
        where = f"{self.root}/annotations/{record.split}.json: {record.file_name}"
        return Origin(self.info, record.size, self.root / FILES, where, self.images.trusted)

    def _encode(self, annotations: list[Annotation], record: ImageRecord) -> list[Rle]:
        try:
            checked = isinstance(record.held, list)  # when the file was opened; spans are read from it only now
            return coco_file.encode_all([a["segmentation"] for a in annotations], record.size, checked=checked)
        except ValueError:
            for annotation in annotations:
                try:
                    coco_file.encode(annotation["segmentation"], record.size)
                except ValueError as error:
                    raise DataError(
                        f"{self.root}/annotations/{record.split}.json: annotation {annotation.get('id')}: {error}"
                    ) from error
            raise

    def _drop(self, annotation: Annotation, record: ImageRecord) -> None:
        key = annotation.get("id", -1)
        if key not in self.dropped:
            self.dropped.append(key)
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.root}/annotations/{record.split}.json: annotation {key} ({record.file_name}) covers no pixel "
                "and is left out, as is every other such one (Dataset.dropped lists those met)",
                stacklevel=2,
            )

    def _maps(self, record: ImageRecord, instances: Instances) -> tuple[np.ndarray | None, Panoptic | None]:
        """(semantic [H,W] of labels, panoptic) as far as the task needs them: read where stored, else derived."""
        task = TASKS[self.task]
        if not task.stuff:
            return None, None
        semantic = panoptic = None
        if self.info.semantic:
            path = self._map("semantic", record, record.label_map)
            semantic = views.read_semantic(path, record.size, len(self.info.categories))
        if self.info.panoptic and (task.things or semantic is None):
            entry = self._panoptic[record.id]
            path = self._map("panoptic", record, entry["file_name"])
            panoptic = views.read_panoptic(path, entry["segments_info"], record.size, self._labels)
        if panoptic is None and task.things:
            panoptic = views.panoptic_from_instances(
                instances, record.size, self.info.num_things, semantic, self.ignore
            )
        if semantic is None:
            if panoptic is not None:
                semantic = views.semantic_from_panoptic(panoptic, self.ignore)
            else:
                semantic = views.semantic_from_instances(instances, record.size, self.ignore)
        return semantic, panoptic if task.things else None

    def _map(self, kind: str, record: ImageRecord, name: str) -> Path:
        """A stored label map. Raises DataError where its name leads out of its folder."""
        where = f"{self.root}/annotations/{record.split}.json: the map of {record.file_name}"
        return resolve(self.root / kind / record.split, name, where, within=self.root, trusted=self.images.trusted)

    def _load_panoptic(self) -> dict[int, PanopticEntry]:
        """Image id -> its entry of panoptic/{split}.json. Raises DataError for an image without one."""
        entries: dict[int, PanopticEntry] = {}
        for split, records in itertools.groupby(sorted(self._records, key=lambda r: r.split), lambda r: r.split):
            path = self.root / "panoptic" / f"{split}.json"
            listed = coco_file.panoptic_entries(path)
            for record in records:
                if record.id not in listed:
                    raise DataError(f"{path}: image {record.id} ({record.file_name}) has no entry")
                entries[record.id] = listed[record.id]
        return entries


def decoded(target: Target) -> Target:
    """RLE masks -> bool [N,H,W], laid out column by column as COCO has it: decoding is then the only cost, cutting and
    encoding again need no copy."""
    masks = target.instances.masks
    if not isinstance(masks, list):
        return target
    dense = torch.zeros(0, *target.size, dtype=torch.bool)
    if masks:
        dense = torch.from_numpy(coco_mask.decode(masks).view(np.bool_)).permute(2, 0, 1)
    return dataclasses.replace(target, instances=dataclasses.replace(target.instances, masks=dense))


def _bare(annotation: Annotation) -> bool:
    return not annotation.get("segmentation")
