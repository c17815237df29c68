"""By hand: does one panoptic model find more than the sum of separate parts, an instance and a semantic model?

    python tests/benchmarks/panoptic_parts.py runs/quickstart-maskformer_panoptic \
        --instance runs/quickstart-maskformer --semantic runs/quickstart-maskformer_semantic

The parts' stored predictions are combined as Kirillov et al. ("Panoptic Segmentation", CVPR 2019, section 7) do:
instances from the highest score down take the pixels that are still free, one that has less than half of its own mask
left is dropped, and what remains gets the semantic map's stuff. The parts choose their best score threshold on the very
images that they are scored on, the panoptic model is taken as it is.
"""

import argparse
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from segcli.data.dataset import Dataset
from segcli.data.stored import StoredPredictions
from segcli.metrics.panoptic import PanopticScores
from segcli.run import RunFolder
from segcli.types import Panoptic, Prediction, Segment

FREE = 0.5  # an instance needs so much of its mask
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)


def stored(path: Path) -> StoredPredictions:
    """A run's predictions on the split that it was scored on."""
    run = RunFolder(path)
    recipe = run.recipe()
    names = str(recipe.resolve(recipe.data.split_file)) if recipe.data.split_file else None
    data = Dataset(recipe.data.root, recipe.eval.split, split_file=names, task=recipe.task)
    return StoredPredictions(run.path / "predictions" / f"{recipe.eval.split}.json", data)


def combine(instances: Prediction, semantic: Prediction, num_things: int, threshold: float) -> Panoptic:
    """Both predictions of one image as one panoptic map."""
    ids = np.zeros(instances.size, np.int32)
    segments: list[Segment] = []
    found = instances.instances
    assert found is not None
    assert found.scores is not None
    assert semantic.semantic is not None
    for rle, label, score in zip(found.rles(), found.labels.tolist(), found.scores.tolist(), strict=True):
        mask = coco_mask.decode(rle).astype(bool)
        free = mask & (ids == 0)
        if score > threshold and free.sum() > FREE * mask.sum():
            segments.append(Segment(len(segments) + 1, label, score))
            ids[free] = len(segments)
    for label in np.unique(semantic.semantic):
        free = (semantic.semantic == label) & (ids == 0)
        if num_things <= label < 255 and free.any():
            segments.append(Segment(len(segments) + 1, int(label)))
            ids[free] = len(segments)
    return Panoptic(ids, segments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panoptic", type=Path)
    parser.add_argument("--instance", type=Path, required=True)
    parser.add_argument("--semantic", type=Path, required=True)
    given = parser.parse_args()
    whole, things, stuff = (stored(path) for path in (given.panoptic, given.instance, given.semantic))
    data = whole.dataset
    assert data.image_ids == things.dataset.image_ids == stuff.dataset.image_ids, "the runs have other images"
    images = range(len(data.image_ids))
    targets = [data.encoded_target(i) for i in images]
    own = PanopticScores(data.info)
    own.update([whole.read(i) for i in images], targets)
    print("panoptic model", {key: round(value, 4) for key, value in own.compute().items()})
    best: dict[str, float] = {}
    for threshold in THRESHOLDS:
        parts = PanopticScores(data.info)
        for i in images:
            both = combine(things.read(i), stuff.read(i), data.info.num_things, threshold)
            parts.update([Prediction(data.image_ids[i], data.sizes[i], panoptic=both)], [targets[i]])
        scores = parts.compute()
        if scores["PQ"] > best.get("PQ", -1):
            best = {"threshold": threshold, **scores}
    print("separate parts", {key: round(value, 4) for key, value in best.items()})


if __name__ == "__main__":
    main()
