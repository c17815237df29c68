"""By hand: does one panoptic model find more than the sum of separate parts, an instance and a semantic model?

    python tests/benchmarks/panoptic_parts.py runs/quickstart-maskformer_panoptic \
        --instance runs/quickstart-maskformer --semantic runs/quickstart-maskformer_semantic

The parts' stored predictions are combined as Kirillov et al. ("Panoptic Segmentation", CVPR 2019, section 7) do:
instances from the highest score down take the pixels that are still free, one that has less than half of its own mask
left is dropped, and what remains gets the semantic map's stuff. The parts choose their best score threshold on the very
images that they are scored on, the panoptic model is taken as it is.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from segcli.data.dataset import Dataset
from segcli.engine.run_folder import RunFolder
from segcli.metrics.panoptic import PanopticScores
from segcli.ops.task_conversion import as_panoptic
from segcli.predictions.store import StoredPredictions
from segcli.types import IGNORE, Panoptic, Segment

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)


def stored(path: Path) -> StoredPredictions:
    """A run's predictions on the split that it was scored on."""
    run = RunFolder(path)
    recipe = run.recipe()
    names = str(recipe.resolve(recipe.data.split_file)) if recipe.data.split_file else None
    data = Dataset(recipe.data.root, recipe.eval.split, split_file=names, task=recipe.task)
    return StoredPredictions(run.path / "predictions" / f"{recipe.eval.split}.json", data)


def add_stuff(things: Panoptic, labels_HW: np.ndarray, num_things: int) -> Panoptic:
    """`things` with the stuff of a label map wherever no thing is."""
    ids, segments = things.ids.copy(), list(things.segments)
    for label in np.unique(labels_HW):
        free = (labels_HW == label) & (things.ids == 0)
        if num_things <= label < IGNORE and free.any():
            segments.append(Segment(max((s.id for s in segments), default=0) + 1, int(label)))
            ids[free] = segments[-1].id
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
    parts = {threshold: PanopticScores(data.info) for threshold in THRESHOLDS}
    for i in images:
        found, labels_HW = things.read(i), stuff.read(i).semantic
        assert labels_HW is not None
        for threshold, scores in parts.items():
            laid = as_panoptic(found, threshold).panoptic
            assert laid is not None
            both = dataclasses.replace(found, panoptic=add_stuff(laid, labels_HW, data.info.num_things))
            scores.update([both], [targets[i]])
    threshold, best = max(((t, p.compute()) for t, p in parts.items()), key=lambda pair: pair[1]["PQ"])
    print("separate parts", {key: round(value, 4) for key, value in {"threshold": threshold, **best}.items()})


if __name__ == "__main__":
    main()
