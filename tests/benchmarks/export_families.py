"""Run by hand: full-size set and per-pixel models as ONNX files, held against themselves on photographs.

    python tests/benchmarks/export_families.py data/pennfudan --size 480
    python tests/benchmarks/export_families.py data/pennfudan --size 480 --models detr

The shipped recipes' architectures with random weights, whose class scores are spread so that there is something to
compare: an untrained model gives all queries, and all pixels, nearly the same. R-CNN is not among them: its untrained
masks are noise, all border, and its boxes move by a pixel where one pixel in a thousand changes; train it a little and
export it. Ten photographs of DATA's val split in three sizes, as `segcli export` checks its files. Prints how far
boxes, scores, masks and label maps are apart.
"""

import argparse
import copy
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.recipe.recipe import Recipe
from segcli.data.dataset import Dataset
from segcli.engine.opening import Opened, prepare_layout
from segcli.export import onnx as to_onnx
from segcli.export.export import IMAGES, Exported, _images, _measure
from segcli.export.graph import on_fixed_canvas, trace
from segcli.models import build_model
from segcli.models.exported import onnx as runtime
from segcli.models.exported.description import Description
from segcli.models.exported.exported import ExportedModel
from segcli.models.interface import Model

RECIPES = {
    "detr": "coco/detr_r50",
    "maskformer, instance": "coco/maskformer_r50_instance",
    "maskformer, panoptic": "coco/maskformer_r50",
    "maskformer, semantic": "ade20k/maskformer_r50",
    "per_pixel": "ade20k/per_pixel_r50",
    "per_pixel_plus": "ade20k/per_pixel_plus_r50",
}
CLASSES, THINGS = 20, 10


def build(recipe: Recipe, size: int, spread: float) -> Model:
    """A recipe's model with random weights. spread: what the weights of its class layers are multiplied by."""
    torch.manual_seed(0)
    settings = {**recipe.model, "backbone": {**recipe.model["backbone"], "weights": None}}
    if recipe.task == "panoptic":
        settings["inference"] = {"score": 0.0, "overlap": 0.0}  # else an untrained model's map is empty
    counts = {"num_classes": CLASSES, "num_things": CLASSES if recipe.task != "panoptic" else THINGS}
    model = build_model(settings, task=recipe.task, **counts)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(tuple(model.class_layers)) and name.endswith("weight"):
                parameter.mul_(spread)
            if recipe.task == "panoptic" and name.endswith("class_embed.bias"):
                parameter[-1] = -1000  # no query is "no object"
    model.preprocess = model.preprocess.with_size(size)
    return prepare_layout(model.eval())


def compared(model: Model, recipe: Recipe, images: list[np.ndarray]) -> Exported:
    """A model's file held against it as `segcli export` does: what `agreement` says."""
    canvas = on_fixed_canvas(model)
    program, outputs = trace(copy.deepcopy(model))
    about = Description(
        **{"target": "onnx", "segcli": "", "torch": "", "name": "", "task": recipe.task, "classes": []},
        **{"outputs": outputs, "canvas": canvas, "recipe": {}, "environment": {}},
    )
    info = DatasetInfo("made", tuple(Category(f"class {i}", i + 1) for i in range(CLASSES)), {})
    with tempfile.TemporaryDirectory(prefix="segcli-families-") as folder:
        path = Path(folder, "model.onnx")
        to_onnx.write(to_onnx.translate(program, outputs), path, about)
        made = Exported(path, path, "onnx", outputs, canvas, torch.get_num_threads(), (0.0, 0.0))
        exported = ExportedModel(about, info, runtime.load(path, made.threads))
        _measure(made, exported, Opened(model, recipe, info, None), images, lambda _: None, True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a prepared dataset with photographs")
    parser.add_argument("--size", type=int, default=480, help="of the network's square canvas, pixels")
    parser.add_argument("--spread", type=float, default=10.0)
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=[*RECIPES])
    given = parser.parse_args()
    images = _images(Dataset(given.data, split="val"), IMAGES)
    for name in given.models:
        recipe = Recipe.load(RECIPES[name])
        made = compared(build(recipe, given.size, given.spread), recipe, images)
        found = made.agreement
        assert found is not None
        values = {k: v for k, v in dataclasses.asdict(found).items() if v is not None and k != "missing"}
        shown = ", ".join(f"{k} {v:.6g}" for k, v in values.items())
        print(f"{name}: {shown}: {'; '.join(found.problems()) or 'within all bounds'}", flush=True)


if __name__ == "__main__":
    main()
