"""`segcli visualize data`: images with their labels, before or after augmentation."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segcli.commands.samples import counts, open_richest
from segcli.core import folders
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.data.augment.compose import build_augment
from segcli.data.dataset import Dataset
from segcli.data.loader import Augment
from segcli.drawing.overlays import draw
from segcli.drawing.sheets import cell_width, choose_columns, contact_sheet, legend_of, sheet_names, text_panel
from segcli.engine.opening import build
from segcli.models.interface import Model
from segcli.predictions.coco_results import write_image
from segcli.types import Sample

PER_SHEET = 24  # pictures
WIDTH = 1800  # pixels
VARIANTS = 3  # augmented versions beside each image


def show_data(
    root: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    split_file: str | Path | None = None,
    count: int = 16,
    seed: int = 0,
    augmented: Recipe | None = None,
    facts: Sequence[str] = (),
) -> list[Path]:
    """Draw `count` images of a split (None: of all), chosen by `seed`, with their labels. -> the sheets written,
    out/data-SPLIT.jpg and, of 24 pictures each, data-SPLIT-2.jpg, ...

    augmented: a recipe whose `data.augment` is shown: each image as labelled, then three versions as training would
    see them, on the recipe's canvas. facts: lines of text that the first sheet begins with. Raises DataError where the
    dataset can't be read, or a sheet's name has a file that segcli did not write; UsageError where the recipe augments
    nothing.
    """
    info = DatasetInfo.load(root)
    model = build(augmented, info) if augmented else None
    if augmented and model:
        dataset = Dataset(root, split, split_file=split_file, task=augmented.task, fields=model.fields)
    else:
        dataset = open_richest(root, info, split, split_file=split_file)
    number = min(len(dataset), count if augmented is None else max(1, count // (VARIANTS + 1)))
    chosen = np.sort(np.random.default_rng(seed).choice(len(dataset), number, replace=False)).tolist()
    columns = VARIANTS + 1 if augmented else choose_columns([dataset.sizes[i] for i in chosen])
    title = f"{info.name}: {number} of {len(dataset)} images" + (f" ({split})" if split else "")
    per_sheet = PER_SHEET if augmented is None else PER_SHEET // columns
    if augmented:
        title += f", each as labelled and {VARIANTS} times as recipe {augmented.name} augments it"
    augment = _augmentation(augmented, model, info) if augmented and model else None
    names = sheet_names(f"data-{split or 'all'}", number, per_sheet)
    folders.claim(Path(out), names)
    sheets: list[Path] = []
    for start, name in zip(range(0, number, per_sheet), names, strict=True):
        pictures, captions, targets = [], [], []
        for i in chosen[start : start + per_sheet]:
            sample = dataset.read(i)
            versions = [("", sample)]
            if augment is not None and augmented is not None:
                with augmented.blamed("data.augment"):
                    versions += [
                        ("augmented", augment(dataset.read(i), *_draws(dataset, seed, i, v))) for v in range(VARIANTS)
                    ]
            for what, version in versions:
                pictures.append(draw(version.image, version.target, info, width=cell_width(WIDTH, columns)))
                targets.append(version.target)
                captions.append(f"{what or sample.file_name} · {counts(version.target, info)}")
        sheet = contact_sheet(pictures, captions, columns=columns, width=WIDTH, title=title)
        if (strip := legend_of(targets, info, WIDTH)) is not None:
            sheet = np.concatenate([sheet, strip])
        if facts and not sheets:
            sheet = np.concatenate([text_panel(facts, WIDTH), sheet])
        write_image(Path(out) / name, sheet)
        sheets.append(Path(out) / name)
    folders.note_written(Path(out))
    return sheets


def _augmentation(recipe: Recipe, model: Model, info: DatasetInfo) -> Augment:
    """What the training loader does to a sample, on the same canvas."""
    canvas, longest = model.preprocess.fixed_canvas(), model.preprocess.longest
    with recipe.blamed("data.augment"):
        augment = build_augment(recipe.data.augment, canvas=canvas, info=info, longest=longest, fields=model.fields)
    if augment is None:
        raise UsageError(f"recipe {recipe.name}: data.augment is empty", hint="for example data.augment.flip=0.5")
    return augment


def _draws(dataset: Dataset, seed: int, i: int, version: int) -> tuple[np.random.Generator, Callable[[], Sample]]:
    """The random source of one version, and the function that gives it another sample."""
    rng = np.random.default_rng([seed, i, version])
    return rng, lambda: dataset.read(int(rng.integers(len(dataset))))
