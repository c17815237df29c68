"""Run by hand: how much of the wall time of `segcli predict` on a folder the model itself takes.

    python tests/benchmarks/prediction_share.py --images 20
    python tests/benchmarks/prediction_share.py --images 20 --detections 10 --models mask_rcnn

R50 models with random weights on JPEGs of 480 x 640 pixels made here, with everything that is written by default:
overlays, predictions.json, numbered masks. Reading, the model, and drawing overlap, so that the rest should hide behind
the model where there is more than one core. The model is all of `model.predict`: the network, and masks on the image's
own pixels. Goal: 85 %.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rcnn_speed import CLASSES, INFO, models, picture

from segcli.commands.predict.files import predict_files
from segcli.commands.predictor import Predictor
from segcli.core.recipe.recipe import Recipe
from segcli.models import build_model
from segcli.ops.cpu.allocator import keep_freed_memory

RECIPES = {"mask_rcnn": "coco/mask_rcnn_r50_fpn", "detr": "coco/detr_r50", "maskformer": "coco/maskformer_r50_instance"}


def build(name: str) -> Predictor:
    """A model of that recipe; Mask R-CNN's class scores are spread so that it has detections."""
    recipe = Recipe.load(RECIPES[name], {"eval.batch_size": 1})
    if name == "mask_rcnn":
        model: Any = models((800, 1333))[0]
    else:
        torch.manual_seed(0)
        settings = {**recipe.model, "backbone": {**recipe.model["backbone"], "weights": None}}
        model = build_model(settings, task=recipe.task, num_classes=CLASSES, num_things=CLASSES)
        model.preprocess = model.preprocess.with_size(recipe.data.size)
    return Predictor(model.eval(), recipe, INFO)


def timed(run: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        begun = time.perf_counter()
        try:
            return run(*given)
        finally:
            spent.append(time.perf_counter() - begun)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--detections", type=int, default=100, help="at most, an image")
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=[*RECIPES])
    given = parser.parse_args()
    keep_freed_memory()  # as every segcli command does
    with tempfile.TemporaryDirectory(prefix="segcli-share-") as place:
        folder = Path(place, "images")
        folder.mkdir()
        for i in range(given.images):
            Image.fromarray(picture(i)).save(folder / f"{i:04}.jpg", quality=92)
        for name in given.models:
            predictor = build(name)
            predictor.model.max_detections = given.detections
            predictor([picture(0)])  # what happens once only
            spent: list[float] = []
            predictor.model.predict = timed(predictor.model.predict, spent)  # type: ignore[method-assign]
            report = predict_files(predictor, [folder], Path(place, name), score=0.0, progress=False)
            share = sum(spent) / report.seconds
            print(
                f"{RECIPES[name]}: the model takes {share:.1%} of {report.seconds:.1f} s for {report.images} images "
                f"with {report.detections} objects; goal 85 %",
                flush=True,
            )


if __name__ == "__main__":
    main()
