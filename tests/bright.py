"""A toy model without weights to learn, for tests of what is done with predictions."""

import threading

import numpy as np
import torch
from PIL import Image
from torch import nn

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.recipe.recipe import Recipe
from segcli.models.interface import Model
from segcli.ops.preprocess import Preprocess
from segcli.types import Instances, Panoptic, Prediction, Segment, encode_masks

INFO = DatasetInfo("toy", (Category("고양이", 17), Category("dog", 3)), {"val": 1})
RECIPE = Recipe.parse(
    {
        "name": "toy",
        "task": "instance",
        "data": {"root": "nowhere"},
        "model": {"name": "fake"},
        "train": {"steps": 1},
        "eval": {"batch_size": 3},
    },
    "test",
)


class Bright(Model):
    """Finds the bright pixels of an image (score .9, label 0), and its upper left quarter (score .4, label 1)."""

    def __init__(self, kind="instance"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.preprocess = Preprocess(None, 64, "opencv", divisor=8)
        self.kind, self.threads, self.batches = kind, set(), []

    def predict(self, batch):
        assert torch.is_inference_mode_enabled()
        self.threads.add(threading.current_thread().name)
        self.batches.append(len(batch.image_ids))
        return [self.one(batch, i) for i in range(len(batch.image_ids))]

    def one(self, batch, i):
        (h, w), size = batch.sizes[i], batch.original_sizes[i]
        bright = batch.images[i, 0, :h, :w] > 1
        masks = torch.nn.functional.interpolate(bright[None, None].float(), size=size)[0].bool().numpy()
        quarter = np.zeros_like(masks)
        quarter[0, : size[0] // 2, : size[1] // 2] = True
        if self.kind == "semantic":
            return Prediction(batch.image_ids[i], size, semantic=masks[0].astype(np.uint8))
        if self.kind == "panoptic":
            found = Panoptic(masks[0].astype(np.int32) * 5, [Segment(5, 1, 0.8)])
            return Prediction(batch.image_ids[i], size, panoptic=found)
        boxes = torch.tensor([[0.0, 0, size[1], size[0]], [0, 0, size[1] / 2, size[0] / 2]])
        rles = None if self.kind == "detection" else encode_masks(np.concatenate([masks, quarter]))
        found = Instances(boxes, torch.tensor([0, 1]), torch.tensor([0.9, 0.4]), masks=rles)
        return Prediction(batch.image_ids[i], size, found)


def photo(path, side=40, bright=(10, 20)):
    """A dark image with a bright square, whose place tells images apart."""
    pixels = np.full((side, side + 8, 3), 30, np.uint8)
    pixels[bright[0] : bright[1], bright[0] : bright[1]] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


class Beside:
    """A field of `count` objects that is stored in a file beside, as meshes are."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Beside(len(torch.arange(self.count)[index]))

    def to(self, device):
        return self

    def crop(self, x, y, width, height):
        return self

    def write(self, labels, store):
        return [{"beside_file": store.file("beside", {"a": np.zeros(3)})} for _ in labels]
