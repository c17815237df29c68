"""The values that travel between data, models and scores. Shapes are checked once, at construction.

Boxes are xyxy in absolute pixels, half-open: x2 is the last column + 1. Labels are contiguous 0..C-1, no background.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from typing_extensions import Self  # in typing since Python 3.11

from segcli.core.coco_json import Rle
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.files import resolve, write_atomic

# The semantic label of pixels that count neither in a loss nor in a score must be none of the classes'. Maps of up to
# EIGHT_BITS classes have 8 bits, in files and in memory, and IGNORE; maps of more have 16 bits and IGNORE_16
IGNORE, IGNORE_16 = 255, 65535
EIGHT_BITS = 254
Labels = Sequence[Mapping[str, object]]  # COCO annotations, with whatever keys their fields have
Index = slice | Tensor | np.ndarray  # objects by integers [K] or by bools [N]
Colour = tuple[int, int, int]  # RGB, 0..255


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where one image's annotations come from: info of the dataset; size (h, w) of the image; folder of side files
    (meshes, maps), out of which no name leads unless they are `trusted`; where: what errors name."""

    info: DatasetInfo
    size: tuple[int, int]
    folder: Path
    where: str
    trusted: bool = False

    def file(self, name: object) -> Path:
        """The side file of that name; it need not exist. Raises DataError for one that lies elsewhere."""
        return resolve(self.folder, name, self.where, trusted=self.trusted)


@dataclasses.dataclass(frozen=True)
class Store:
    """Where one image's predictions are written: side files go to `folder`; None: there is no place for any."""

    info: DatasetInfo
    image_id: int
    folder: Path | None

    def file(self, field: str, arrays: Mapping[str, np.ndarray]) -> str:
        """Write the side file of a field of this image. -> its name, for the entries: `Origin.file` finds it again.
        Raises UsageError where there is no folder, SegcliError where it can't be written."""
        if self.folder is None:
            raise UsageError(f"{field} is stored in a file beside", hint="segcli predict --out FOLDER writes it")
        save: Callable[..., None] = np.savez_compressed  # numpy's own types take any ** for allow_pickle
        path = self.folder / side_file(self.image_id, field)

        def write(part: Path) -> None:
            with open(part, "wb") as file:
                save(file, **arrays)

        write_atomic(path, write, flush=False)
        return path.name


def side_file(image_id: int, field: str) -> str:
    """What the side file of a field is called."""
    return f"{image_id:06d}_{field}.npz"


@dataclasses.dataclass(frozen=True)
class Placed:
    """How an annotation moves to another image: a point (x, y) to (scale · (x, y) - shift), on an image of `size` (h,
    w); what is outside is cut off. box: the annotation's new box (x, y, width, height)."""

    scale: tuple[float, float]
    shift: tuple[float, float]
    size: tuple[int, int]
    box: Sequence[float]


@runtime_checkable
class Field(Protocol):
    """Per-instance data beyond box, label and mask (keypoints, DensePose, meshes), declared by the head that needs it.

    A field knows how it is read from the COCO annotations of one image and how it follows the image, so that a new head
    edits nothing here or in `data/`. Every method returns a new field. The Protocols below are what a field may define
    besides. As a plugin (`field:NAME`, `build() -> type[Field]`) it is also drawn, checked, cut and mended by
    `prepare`, without any model.
    """

    @classmethod
    def read(cls, annotations: Labels, origin: Origin) -> Self: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Index) -> Self: ...
    def flip(self, width: float) -> Self: ...
    def crop(self, x: float, y: float, width: float, height: float) -> Self: ...
    def scale(self, x: float, y: float) -> Self: ...
    def to(self, device: torch.device | str) -> Self: ...


@runtime_checkable
class Rotatable(Field, Protocol):
    """Can be rotated: needed by quarter turns, mirrors top to bottom and rotations by any angle.

    matrix [2,3] float64 maps a point: matrix @ (x, y, 1), in pixels. It rotates and shifts; mirroring is `flip`'s.
    """

    def rotate(self, matrix: np.ndarray) -> Self: ...


@runtime_checkable
class Coloured(Field, Protocol):
    """Depends on the image's colours: follows augmentations of pixels (colour, blur), or refuses them."""

    def recolour(self, before: np.ndarray, after: np.ndarray) -> Self:
        """before, after: the image on its canvas, uint8 RGB [H,W,3]. Raises UsageError where it can't follow."""


@runtime_checkable
class Checked(Protocol):
    """Checks the labels of one image."""

    @classmethod
    def problems(cls, annotations: Labels, origin: Origin) -> Iterator[str]:
        """One sentence for each problem."""


@runtime_checkable
class Labelled(Protocol):
    """Knows whether one image has any label of it: where none of a train split has, there is nothing to learn."""

    @classmethod
    def labelled(cls, annotations: Labels) -> bool: ...


@runtime_checkable
class Written(Protocol):
    """Is stored with predictions."""

    def write(self, labels: Sequence[int], store: Store) -> Sequence[Mapping[str, object]]:
        """Keys of each instance's entry in a prediction file, JSON values that `read` reads back; what is too large for
        them goes to `store.file`."""


@runtime_checkable
class Keyed(Protocol):
    """Names the keys of an annotation that it reads, so that `prepare` knows which datasets have it."""

    @classmethod
    def reads(cls) -> tuple[str, ...]: ...


@runtime_checkable
class Moved(Keyed, Protocol):
    """Follows an annotation onto a tile or an image of another size; other fields are refused there."""

    @classmethod
    def moved(cls, annotation: Mapping[str, object], placed: Placed) -> Mapping[str, object]:
        """The keys that change. Raises ValueError where the label is malformed."""


@runtime_checkable
class Perfect(Protocol):
    """Labels that can be scored as predictions: the self-test of `prepare` expects that they score 100."""

    def perfect(self) -> tuple[Self, Tensor]:
        """(what a model would predict that makes no mistake, bool [N]: which objects have a label)."""


@runtime_checkable
class Drawn(Protocol):
    """Draws itself over an RGB picture [H,W,3] that is `factor` times as large as the image, in place."""

    def draw(
        self, canvas: np.ndarray, found: "Instances", info: DatasetInfo, factor: float, colours: Sequence[Colour]
    ) -> None: ...


@dataclasses.dataclass
class Instances:
    """N objects of one image; all fields have the same length, and indexing indexes every one of them.

    boxes [N,4] float32; labels [N] int64; scores [N] in 0..1 (predictions); crowd [N] bool (annotations);
    masks: bool [N,h,w], or N RLEs on the same pixels (predictions, full-size annotations).
    Raises ValueError where lengths or shapes disagree.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor | None = None
    crowd: Tensor | None = None
    masks: Tensor | list[Rle] | None = None
    fields: dict[str, Field] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes must be [N,4], not {list(self.boxes.shape)}")
        if isinstance(self.masks, Tensor) and (self.masks.ndim != 3 or self.masks.dtype != torch.bool):
            raise ValueError(f"masks must be bool [N,h,w], not {self.masks.dtype} {list(self.masks.shape)}")
        for name, value in [
            ("labels", self.labels),
            ("scores", self.scores),
            ("crowd", self.crowd),
            ("masks", self.masks),
            *self.fields.items(),
        ]:
            if value is not None and len(value) != len(self.boxes):
                raise ValueError(f"{name} has {len(value)} entries for {len(self.boxes)} boxes")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> "Instances":
        """The objects at `index`: a slice, an integer tensor or a bool tensor [N]."""
        masks = self.masks
        if isinstance(masks, list):
            masks = [masks[i] for i in torch.arange(len(masks))[index].tolist()]
        elif masks is not None:
            masks = masks[index]
        return Instances(
            boxes=self.boxes[index],
            labels=self.labels[index],
            scores=None if self.scores is None else self.scores[index],
            crowd=None if self.crowd is None else self.crowd[index],
            masks=masks,
            fields={name: value[index] for name, value in self.fields.items()},
        )

    def mask(self, i: int) -> np.ndarray:
        """Object i's mask, bool [h,w], whichever way masks are held."""
        assert self.masks is not None, "these instances have no masks"
        if isinstance(self.masks, Tensor):
            return self.masks[i].cpu().numpy()
        return coco_mask.decode(self.masks[i]).astype(bool)

    def rles(self) -> list[Rle]:
        """All masks as RLE, encoding them where they are dense."""
        assert self.masks is not None, "these instances have no masks"
        if isinstance(self.masks, list):
            return self.masks
        return encode_masks(self.masks.cpu().numpy())

    def to(self, device: torch.device | str) -> "Instances":
        move = lambda v: v.to(device) if isinstance(v, Tensor) else v
        return Instances(
            move(self.boxes),
            move(self.labels),
            move(self.scores),
            move(self.crowd),
            move(self.masks),
            {name: value.to(device) for name, value in self.fields.items()},
        )

    @classmethod
    def empty(cls, size: tuple[int, int] | None = None) -> "Instances":
        """No objects; with `size` (h, w) also an empty dense mask tensor."""
        masks = None if size is None else torch.zeros(0, *size, dtype=torch.bool)
        return cls(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), masks=masks)


@dataclasses.dataclass
class Segment:
    """One region of a panoptic map: its id in the map, its class, and whether it is a crowd region."""

    id: int
    label: int
    score: float = 1.0
    crowd: bool = False


@dataclasses.dataclass
class Panoptic:
    """ids [H,W] int32 (0 = void) and the segments that they name."""

    ids: np.ndarray
    segments: list[Segment]


@dataclasses.dataclass
class Target:
    """The ground truth of one image. `size` (H, W) is the canvas that boxes and masks are on.

    semantic [H,W] int64 holds labels, `ignore` where unlabelled (`ignore_label` of the number of classes); None where
    the task does not need it.
    """

    image_id: int
    size: tuple[int, int]
    instances: Instances
    semantic: Tensor | None = None
    panoptic: Panoptic | None = None
    ignore: int = IGNORE

    def to(self, device: torch.device | str) -> "Target":
        semantic = None if self.semantic is None else self.semantic.to(device)
        return dataclasses.replace(self, instances=self.instances.to(device), semantic=semantic)


@dataclasses.dataclass
class Prediction:
    """A model's prediction for one image, on the original image's pixels; `size` is (H, W).

    instances carry scores, sorted from high to low, masks as RLE; semantic is [H,W] of labels, of any integer type.
    """

    image_id: int
    size: tuple[int, int]
    instances: Instances | None = None
    semantic: np.ndarray | None = None
    panoptic: Panoptic | None = None


@dataclasses.dataclass
class Sample:
    """One image as read, or as augmented: RGB uint8 [H,W,3], its target on the same pixels, the file's own size."""

    image: np.ndarray
    target: Target
    file_name: str
    original_size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"{self.file_name}: image must be uint8 [H,W,3], not {self.image.dtype} {self.image.shape}"
            )


@dataclasses.dataclass
class Batch:
    """B preprocessed images on one canvas.

    images [B,3,H,W] float32; padding [B,H,W] bool, True = padded; sizes: (h, w) of each image's content on the canvas;
    original_sizes: (h, w) of the files; targets on canvas pixels (None at inference); seeds: one integer an image, made
    of (run seed, epoch, image), that every random sampler inside a model draws from: then ranks, accumulation and
    resume do not change the numbers.
    """

    images: Tensor
    padding: Tensor
    sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]
    image_ids: list[int]
    targets: list[Target] | None = None
    seeds: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        b, c, h, w = self.images.shape
        if c != 3 or self.padding.shape != (b, h, w):
            raise ValueError(f"images {list(self.images.shape)} and padding {list(self.padding.shape)} disagree")
        for name, value in [("sizes", self.sizes), ("original_sizes", self.original_sizes), ("targets", self.targets)]:
            if value is not None and len(value) != b:
                raise ValueError(f"{name} has {len(value)} entries for {b} images")

    def to(self, device: torch.device | str) -> "Batch":
        targets = None if self.targets is None else [t.to(device) for t in self.targets]
        return dataclasses.replace(
            self, images=self.images.to(device), padding=self.padding.to(device), targets=targets
        )


def ignore_label(classes: int) -> int:
    """The label that says "unlabelled" in semantic maps of so many classes."""
    return IGNORE if classes <= EIGHT_BITS else IGNORE_16


def label_type(classes: int) -> type[np.uint8] | type[np.uint16]:
    """The type of stored semantic maps of so many classes: of their labels and `ignore_label`."""
    return np.uint8 if classes <= EIGHT_BITS else np.uint16


def encode_masks(masks: np.ndarray) -> list[Rle]:
    """Bool or uint8 [N,h,w] -> N compressed RLEs (counts as bytes)."""
    if len(masks) == 0:
        return []
    return coco_mask.encode(np.asfortranarray(masks.astype(np.uint8).transpose(1, 2, 0)))


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Tight half-open boxes [N,4] float32 of bool masks [N,h,w]; all zero for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def collect(predictions: Sequence[Prediction]) -> dict[int, Prediction]:
    """Predictions by image id."""
    return {p.image_id: p for p in predictions}
