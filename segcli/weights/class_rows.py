"""Which row of an official class layer is which class, so that a dataset's classes find their rows by name.

torchvision's and DETR's layers are indexed by COCO's category ids, which have gaps; MaskFormer's by position. The rows
of background or "no object" bear the name "".
"""

from functools import lru_cache

from torch import Tensor
from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.segmentation import FCN_ResNet50_Weights

from segcli.core.dataset_info import Category, DatasetInfo

# COCO's panoptic stuff categories, id -> name
STUFF_IDS = [
    *(92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154),
    *(155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181, *range(184, 201)),
]
STUFF_NAMES = [
    *("banner", "blanket", "bridge", "cardboard", "counter", "curtain", "door-stuff"),
    *("floor-wood", "flower", "fruit", "gravel", "house", "light", "mirror-stuff"),
    *("net", "pillow", "platform", "playingfield", "railroad", "river", "road"),
    *("roof", "sand", "sea", "shelf", "snow", "stairs", "tent"),
    *("towel", "wall-brick", "wall-stone", "wall-tile", "wall-wood", "water-other", "window-blind"),
    *(
        "window-other",
        "tree-merged",
        "fence-merged",
        "ceiling-merged",
        "sky-other-merged",
        "cabinet-merged",
        "table-merged",
    ),
    *(
        "floor-other-merged",
        "pavement-merged",
        "mountain-merged",
        "grass-merged",
        "dirt-merged",
        "paper-merged",
        "food-other-merged",
    ),
    *("building-other-merged", "rock-merged", "wall-other-merged", "rug-merged"),
]

JOINTS = tuple(KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.meta["keypoint_names"])
SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
PAIRS = tuple((i, i + 1) for i in range(1, 17, 2))  # left, then right


def order_of(source: str, rows: int, names: list[str]) -> list[int] | None:
    """The official rows that make a class layer for `names`, in this model's order; None where a name has no row.

    rows: of the official layer. Background stays first and "no object" last, as the official layer has them.
    """
    layout = layouts().get((source, rows))
    if layout is None or not all(name.lower() in layout for name in names):
        return None
    order = [layout[name.lower()] for name in names]
    if "" not in layout:
        return order
    return [0, *order] if layout[""] == 0 else [*order, layout[""]]


def take_rows(value: Tensor, rows: int, order: list[int]) -> Tensor:
    """Rows of a class layer's weight or bias; a layer with several outputs a class (boxes) keeps them together."""
    grouped = value.reshape(rows, value.shape[0] // rows, *value.shape[1:])
    return grouped[order].flatten(0, 1)


def around_the_mean(value: Tensor, own: Tensor) -> Tensor:
    """A class layer's weight or bias for other classes than a file's, from the file's `value` and the model's random
    `own`, both one row a class: the mean of the file's rows, which tells an object of any class from the ground, plus
    what sets the class's random row apart from the others'. MaskFormer and DETR learned eight classes that
    began alike more slowly; one class is the mean.
    """
    mean = value.float().mean(0, keepdim=True).expand(own.shape)
    return mean + (own.float() - own.float().mean(0)) if own.ndim > 1 else mean.clone()


def official_info(classes: str) -> DatasetInfo:
    """The classes of `coco` (80 things), `coco_panoptic` (and 53 kinds of stuff), `coco_person` (with 17 keypoints)
    or `voc` (21 labels, background among them) without the dataset: enough to predict with official weights."""
    if classes == "coco_person":
        return DatasetInfo(classes, (Category("person", 1, keypoints=JOINTS, skeleton=SKELETON, flip_pairs=PAIRS),), {})
    rows = layouts()[{"coco": ("detr", 92), "coco_panoptic": ("detr", 251), "voc": ("torchvision", 21)}[classes]]
    things = lambda row: classes != "voc" and row <= 90
    categories = [Category(name, row, thing=things(row)) for name, row in rows.items() if name]
    return DatasetInfo(classes, tuple(categories), {})


@lru_cache
def layouts() -> dict[tuple[str, int], dict[str, int]]:
    """(source, rows of its class layer) -> name -> row."""
    boxes = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    things = {name: i for i, name in enumerate(boxes) if i and name != "N/A"}
    stuff = dict(zip(STUFF_NAMES, STUFF_IDS, strict=True))
    voc = FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"]
    contiguous = {name: i for i, name in enumerate([*things, *stuff])}
    return {
        ("torchvision", 91): {"": 0, **things},
        ("torchvision", 21): {name.strip("_"): i for i, name in enumerate(voc)},
        ("detr", 92): {**things, "": 91},
        ("detr", 251): {**things, **stuff, "": 250},
        ("maskformer", 134): {**contiguous, "": 133},
    }
