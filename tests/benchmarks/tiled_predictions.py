"""Mask AP of enlarged images predicted whole and in tiles, and what one very large image takes.

    python tests/benchmarks/tiled_predictions.py RUN DATA --factor 4 --tile 1024 --overlap 256
    python tests/benchmarks/tiled_predictions.py RUN --side 20000 --tile 1024

Labels are enlarged with the images, pixel by pixel.
"""

import argparse
import contextlib
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcli.commands.predict.files import predict_files
from segcli.commands.predictor import Predictor, load
from segcli.core.tasks import TASKS
from segcli.data.dataset import Dataset
from segcli.types import encode_masks


def enlarge(dataset: Dataset, factor: int, folder: Path) -> COCO:
    """Write the split's images, `factor` times as large. -> their labels."""
    images, annotations = [], []
    for i in range(len(dataset)):
        sample = dataset.read(i)
        height, width = (side * factor for side in sample.image.shape[:2])
        large = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(large).save(folder / f"{i:05}.png", compress_level=1)
        images.append({"id": i + 1, "height": height, "width": width})
        objects = sample.target.instances
        for k in range(len(objects)):
            mask = objects.mask(k).repeat(factor, 0).repeat(factor, 1)
            rle = encode_masks(mask[None])[0]
            box = coco_mask.toBbox(rle).tolist()
            label = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": int(objects.labels[k])}
            area = float(coco_mask.area(rle))
            annotations.append({**label, "bbox": box, "area": area, "iscrowd": 0, "segmentation": rle})
    coco = COCO()
    categories = [{"id": i, "name": name} for i, name in enumerate(dataset.info.names)]
    coco.dataset = {"images": images, "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def mask_ap(predictor: Predictor, folder: Path, out: Path, truth: COCO, **how: int) -> tuple[float, float]:
    """AP, AP at IoU 0.5 of all detections."""
    predict_files(predictor, [folder], out, score=0.05, save=["coco"], **how)
    labels = {source: label for label, source in enumerate(predictor.info.source_ids)}
    found = json.loads((out / "predictions.json").read_text(encoding="utf-8"))["annotations"]
    for one in found:
        one["category_id"] = labels[one["category_id"]]
        del one["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        scorer = COCOeval(truth, truth.loadRes(found), "segm")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return float(scorer.stats[0]), float(scorer.stats[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int)
    parser.add_argument("--side", type=int)
    parser.add_argument("--input", type=int, help="longest side of the whole image in the model's input")
    given = parser.parse_args()
    how = {"tile": given.tile, "overlap": given.overlap if given.overlap is not None else given.tile // 4}
    predictor = load(given.run)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "in")
        folder.mkdir()
        if given.side:
            side = given.side
            rng = np.random.default_rng(0)
            image = np.zeros((side, side, 3), np.uint8)
            for _ in range(side // 4):
                at = tuple(int(v) for v in rng.integers(0, side, 2))
                cv2.circle(image, at, int(rng.integers(20, 200)), tuple(int(v) for v in rng.integers(0, 255, 3)), -1)
            Image.fromarray(image).save(folder / "large.png", compress_level=1)
            del image
            begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            report = predict_files(predictor, [folder], Path(place, "out"), **how)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(f"{report.detections} objects, {time.perf_counter() - begun:.0f} s, peak {peak / 2**20:.2f} GiB")
            print(f"peak before, with the image made: {before / 2**20:.2f} GiB")
            return
        recipe = predictor.recipe
        names = recipe.data.split_file and recipe.resolve(recipe.data.split_file)  # not what it learned
        truth = enlarge(Dataset(Path(given.data), "val", split_file=names, task=recipe.task), given.factor, folder)
        assert TASKS[predictor.recipe.task].masks
        tiles = mask_ap(predictor, folder, Path(place, "tiles"), truth, **how)
        print(how, tiles)
        if given.input:
            predictor.model.preprocess = predictor.model.preprocess.with_size(given.input)
        print("whole", mask_ap(predictor, folder, Path(place, "whole"), truth))


if __name__ == "__main__":
    main()
