"""`segcli visualize predictions`: labels beside predictions, of random images or of the worst."""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from segcli.core import folders
from segcli.core.dataset_info import DatasetInfo
from segcli.core.tasks import TASKS
from segcli.data.dataset import Dataset
from segcli.drawing.sheets import cell_width, contact_sheet, draw_labels_beside_predictions, sheet_names
from segcli.engine.opening import fields_of
from segcli.engine.run_folder import RunFolder
from segcli.metrics.image_quality import MEANING, MEANING_SEMANTIC, image_quality
from segcli.predictions.coco_results import write_image
from segcli.predictions.shown_score import USUAL, scores_of, shown_score
from segcli.predictions.store import StoredPredictions

PER_SHEET = 12  # pairs
WIDTH = 1800  # pixels
SAMPLE = 50  # images at most whose scores decide from which score on detections are drawn


def show_predictions(
    run: str | Path,
    out: str | Path | None = None,
    *,
    split: str | None = None,
    worst: int | None = None,
    count: int = 12,
    score: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> list[Path]:
    """Labels beside the run's stored predictions. -> the sheets written: out/predictions-SPLIT.jpg (or worst-SPLIT.jpg)
    and, of 12 pairs each, predictions-SPLIT-2.jpg, ...

    out: the run's folder `pictures` by default. worst: the K images of the lowest quality, lowest first (see
    `metrics.image_quality`; the sheet's title says how it is computed); None: `count` images chosen by `seed`. score:
    the least score of a detection that is drawn and counted; None: 0.5,
    or less where no detection reaches it, which the title says (see `shown_score`).
    Raises ModelError for a folder that is no run, DataError where its data or its predictions can't be read, or a
    sheet's name has a file that segcli did not write.
    """
    folder = RunFolder(run)
    recipe = folder.recipe()
    chosen_split = split or recipe.eval.split
    names = recipe.data.split_file
    dataset = Dataset(
        recipe.data.root,
        chosen_split,
        split_file=recipe.resolve(names) if names else None,
        task=recipe.task,
        fields=fields_of(recipe, DatasetInfo.load(recipe.data.root)),
    )
    stored = StoredPredictions(folder.path / "predictions" / f"{chosen_split}.json", dataset)
    weak = False
    if score is None and (TASKS[recipe.task].panoptic or not TASKS[recipe.task].objects):
        score = USUAL  # maps have no detections
    if score is None:
        some = np.linspace(0, len(dataset) - 1, min(len(dataset), SAMPLE)).round().astype(int).tolist()
        objects = sum(len(dataset.encoded_target(i).instances) for i in some)
        score = shown_score((s for i in some for s in scores_of(stored.read(i))), objects)
        weak = score < USUAL
    if worst is None:
        number = min(count, len(dataset))
        chosen = np.sort(np.random.default_rng(seed).choice(len(dataset), number, replace=False)).tolist()
    else:
        images = tqdm(range(len(dataset)), desc="sorting", unit="image", disable=not progress, file=sys.stderr)
        qualities = [
            image_quality(stored.read(i), dataset.encoded_target(i), dataset.info, score=score) for i in images
        ]
        chosen = np.argsort(qualities, kind="stable")[:worst].tolist()
    what = f"{len(chosen)} worst" if worst is not None else f"{len(chosen)}"
    least = f"at score ≥ {score:g}" + (f" (no detection reaches {USUAL:g})" if weak else "")
    meaning = f"{MEANING}, {least}" if TASKS[recipe.task].things else MEANING_SEMANTIC
    title = f"{folder.path.absolute().name}: {what} of {len(dataset)} images ({chosen_split}); {meaning}"
    pictures = Path(out) if out is not None else folder.path / "pictures"
    names_of_sheets = sheet_names(
        f"{'predictions' if worst is None else 'worst'}-{chosen_split}", len(chosen), PER_SHEET
    )
    if out is not None:  # in the run's own folder, what bears these names is ours, wherever it was written
        folders.claim(pictures, names_of_sheets)
    sheets: list[Path] = []
    for start, name in zip(range(0, len(chosen), PER_SHEET), names_of_sheets, strict=True):
        pairs, captions = [], []
        for i in chosen[start : start + PER_SHEET]:
            target, prediction = dataset.encoded_target(i), stored.read(i)
            quality = image_quality(prediction, target, dataset.info, score=score)
            width = cell_width(WIDTH, 2)
            pairs.append(
                draw_labels_beside_predictions(
                    dataset.image(i), target, prediction, dataset.info, score=score, width=width
                )
            )
            captions.append(f"{dataset.file_names[i]} · quality {quality:.2f}")
        write_image(pictures / name, contact_sheet(pairs, captions, columns=2, width=WIDTH, title=title))
        sheets.append(pictures / name)
    if out is not None:
        folders.note_written(pictures)
    return sheets
