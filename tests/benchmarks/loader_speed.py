"""Run by hand: training images a second with full augmentation, against torchvision's reference transforms.

    python tests/benchmarks/loader_speed.py data/coco128

Both read the same files in one process and give normalised floats with boxes, labels and masks on a canvas of 1024
pixels: large-scale jitter (0.1 to 2), crop or padding, mirrors, photometric distortion. segcli also blurs, pads a batch
and, in a second pair, rotates and pastes objects of other images, which torchvision.transforms does not have. First
with nothing kept, so that every image is decoded, then with segcli's memory of decoded images, as from the second epoch
on. Goal: at most 0.67 of torchvision's time, that is 1.5 times as many images a second.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import machine
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision import tv_tensors
from torchvision.transforms import v2

from segcli.data import loader
from segcli.data.augment.compose import build_augment
from segcli.data.dataset import Dataset
from segcli.ops.preprocess import Preprocess

SIDE = 1024
OURS = {"flip": 0.5, "scale": [0.1, 2.0], "colour": 1.0, "blur": 0.1}
MORE = {**OURS, "rotate": 15, "copy_paste": 0.5}


def torchvision_pipeline() -> Any:
    """references/detection's `lsj` preset with the photometric part of `ssd`, in its v2 transforms."""
    fill = {tv_tensors.Image: (124, 116, 104), "others": 0}
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomPhotometricDistort(),
            v2.ScaleJitter((SIDE, SIDE), antialias=True),
            v2.RandomCrop((SIDE, SIDE), pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float, scale=True),
            v2.SanitizeBoundingBoxes(labels_getter=lambda pair: pair[1]["labels"]),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


def torchvision_sample(dataset: Dataset, i: int, transforms: Any) -> Any:
    """As references/detection/coco_utils.py makes one: Pillow, masks of polygons, tv_tensors."""
    image = Image.open(dataset.path(i)).convert("RGB")
    h, w = dataset.sizes[i]
    masks, boxes, labels = [], [], []
    for annotation in dataset.annotations(i):
        shape = annotation["segmentation"]
        if isinstance(shape, list):
            shape = coco_mask.merge(coco_mask.frPyObjects(shape, h, w))
        elif isinstance(shape["counts"], list):
            shape = coco_mask.frPyObjects(shape, h, w)
        masks.append(torch.from_numpy(coco_mask.decode(shape)))
        x, y, bw, bh = annotation["bbox"]
        boxes.append([x, y, x + bw, y + bh])
        labels.append(annotation["category_id"])
    target = {
        "boxes": tv_tensors.BoundingBoxes(np.array(boxes).reshape(-1, 4), format="XYXY", canvas_size=(h, w)),
        "masks": tv_tensors.Mask(torch.stack(masks) if masks else torch.zeros(0, h, w, dtype=torch.uint8)),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    return transforms(image, target)


def timed(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="a prepared folder with masks, of photographs of about 640 x 480")
    parser.add_argument("--split", default="train")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker process
    dataset = Dataset(arguments.root, arguments.split)
    count = min(arguments.images, len(dataset)) // 2 * 2
    order = np.random.default_rng(0).permutation(len(dataset))[:count].tolist()
    transforms = torchvision_pipeline()

    def theirs() -> float:
        return timed(lambda: [torchvision_sample(dataset, i, transforms) for i in order])

    for title, settings in (("the same transforms", OURS), ("and more", MORE)):
        for state, limit in (("decoding", 0), ("from memory", 10**10)):
            augment = build_augment(settings, canvas=(SIDE, SIDE), info=dataset.info)
            loader.LIMIT = limit
            preprocess = Preprocess().with_size(SIDE)
            batches = loader.train_loader(dataset, preprocess, augment, batch_size=2, seed=0)
            if limit:
                list(itertools.islice(batches, len(dataset) // 2))

            def ours(batches: Any = batches) -> float:
                return timed(lambda: list(itertools.islice(batches, count // 2)))

            names, goal = ("segcli", "torchvision"), "0.67"
            mine, other = machine.paired(f"{title}, {state}", ours, theirs, arguments.rounds, names=names, goal=goal)
            print(f"  images a second: {count / mine:.1f}, {count / other:.1f}", flush=True)


if __name__ == "__main__":
    main()
