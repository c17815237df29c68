"""Small untrained models, and an image, for tests of what `segcli visualize explain` draws."""

import numpy as np
import torch
from batches import LAYERS, TRUNK

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.recipe.recipe import Recipe
from segcli.engine.opening import Opened, build

POINTS = ("left", "right")
INFO = DatasetInfo(
    "scene",
    (Category("cat", 1, keypoints=POINTS), Category("dog", 2, keypoints=POINTS), Category("sky", 3, thing=False)),
    {"val": 1},
)
SMALL = {"backbone": TRUNK, "queries": 9, "transformer": {"dim": 64, "heads": 4, "ffn": 64, **LAYERS}}
CHOSEN = {**SMALL, "levels": 2, "boxes": {"deformable": True, "selection": True}}
LITE = {"backbone": TRUNK, "width": 32, "proposals": [8, 8]}
PIXELS = np.random.default_rng(0).integers(0, 255, (72, 120, 3)).astype(np.uint8)


def opened(task, settings):
    settings = {"name": "explained", "task": task, "data": {"root": "data/none", "size": 96}, "model": settings}
    recipe = Recipe.parse({**settings, "train": {"steps": 1}, "eval": {"max_detections": 3}}, "test")
    torch.manual_seed(0)
    return Opened(build(recipe, INFO).eval(), recipe, INFO, None)
