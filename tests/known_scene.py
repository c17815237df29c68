"""One small scene whose objects are told apart by colour, to follow them through what moves images and labels."""

import numpy as np
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.types import Instances, Sample, Target

INFO = DatasetInfo("known", (Category("a", 1), Category("b", 2), Category("sky", 3, thing=False)), {"train": 1})
COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 250, 10]], np.uint8)
GREY = 40
# (x1, y1, x2, y2) of non-overlapping rectangles; their colours tell them apart in the image
RECTANGLES = [(10, 12, 40, 50), (60, 8, 100, 30), (50, 44, 90, 76), (104, 40, 118, 78)]


class Corners:
    """A field: the top-left and bottom-right corner of each object, as points [N,2,2] in pixels."""

    def __init__(self, points):
        self.points = points

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return Corners(self.points[index])

    def flip(self, width):
        points = self.points.copy()
        points[..., 0] = width - points[..., 0]
        return Corners(points)

    def scale(self, x, y):
        return Corners(self.points * [x, y])

    def crop(self, x, y, width, height):
        return Corners(self.points - [x, y])


def known_scene(*, masks=True, fields=False, crowd=(False,) * 4, size=(80, 120)) -> Sample:
    """80 x 120 pixels, four flat rectangles on grey; labels 0, 1, 0, 1; the rest is sky."""
    image = np.full((*size, 3), GREY, np.uint8)
    dense = np.zeros((4, *size), bool)
    semantic = np.full(size, 2, np.int64)
    labels = [0, 1, 0, 1]
    for i, (x1, y1, x2, y2) in enumerate(RECTANGLES):
        image[y1:y2, x1:x2] = COLOURS[i]
        dense[i, y1:y2, x1:x2] = True
        semantic[y1:y2, x1:x2] = labels[i]
    boxes = np.array(RECTANGLES, np.float32)
    instances = Instances(
        torch.from_numpy(boxes),
        torch.tensor(labels),
        crowd=torch.tensor(crowd),
        masks=torch.from_numpy(dense) if masks else None,
        fields={"corners": Corners(boxes.reshape(4, 2, 2).astype(float))} if fields else {},
    )
    return Sample(image, Target(7, size, instances, torch.from_numpy(semantic)), "known.png", size)
