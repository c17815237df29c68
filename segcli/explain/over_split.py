"""What a model's queries do over a whole split, in place of one image."""

import sys

import cv2
import numpy as np
import torch
from tqdm import tqdm

from segcli.data.dataset import Dataset
from segcli.engine.evaluation import batch_of, evaluating
from segcli.engine.opening import Opened
from segcli.explain.scene import Scene
from segcli.types import Prediction

LOOK_AT = 400  # images at most, evenly spaced over the split
SIDE = 480  # pixels of the square that every image is drawn as


def over_split(opened: Opened, split: str, score: float, *, progress: bool = True) -> Scene:
    """A scene whose image is empty and stands for every image, stretched to a square. inside: split_boxes [N,Q,4] xyxy
    as shares of each image and split_scores [N,Q], the best class's; nothing where queries have no boxes.

    Raises DataError where the recipe's dataset or this split of it is not there.
    """
    recipe, model = opened.recipe, opened.model
    names = recipe.resolve(recipe.data.split_file) if recipe.data.split_file else None
    dataset = Dataset(recipe.data.root, split, split_file=names, task=recipe.task)
    chosen = range(0, len(dataset), -(-len(dataset) // LOOK_AT))
    boxes, scores = [], []
    blank = np.full((SIDE, SIDE, 3), 32, np.uint8)
    cv2.line(blank, (SIDE // 2, 0), (SIDE // 2, SIDE), (60, 60, 60))
    cv2.line(blank, (0, SIDE // 2), (SIDE, SIDE // 2), (60, 60, 60))
    scene = Scene(blank, model, batch_of(model, blank), {}, Prediction(0, (SIDE, SIDE)), opened.info, score)
    bar = tqdm(chosen, desc="looking", unit="image", disable=not progress, file=sys.stderr, leave=False)
    with torch.inference_mode(), evaluating(model, recipe):
        for i in bar:
            batch = batch_of(model, dataset.image(i))
            inside = model.inspect(batch)
            if not {"boxes", "class_probabilities"} <= inside.keys():
                return scene
            p_QC, own = inside["class_probabilities"], inside["boxes"]
            assert isinstance(p_QC, torch.Tensor)
            assert isinstance(own, torch.Tensor)
            height, width = batch.sizes[0]
            boxes.append(own[0].float().cpu() / torch.tensor([width, height, width, height]))
            scores.append((p_QC[0, :, :-1] if inside["no_object"] else p_QC[0]).amax(1).float().cpu())
            scene.inside["selected"] = inside.get("selected", False)
    scene.inside.update(split_boxes=torch.stack(boxes), split_scores=torch.stack(scores))
    return scene
