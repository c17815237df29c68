"""`segcli visualize explain`: what a model computes on its way from one image to its prediction, drawn view by view."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from segcli.core import folders, plugins
from segcli.core.errors import DataError, UsageError
from segcli.core.formatting import count
from segcli.data.dataset import Dataset, decoded
from segcli.data.image import read_image
from segcli.engine.evaluation import batch_of, evaluating
from segcli.engine.opening import Opened, open_model, prepare_layout
from segcli.explain.over_split import over_split
from segcli.explain.over_time import moments, together
from segcli.explain.page import Section, explain_page
from segcli.explain.scene import Scene
from segcli.explain.sheet import sheet
from segcli.explain.view import Shown, View
from segcli.predictions.coco_results import write_bytes, write_png
from segcli.types import Target

ORDER = (  # of the views on the page: as an image goes through a model; views of other packages come last
    *("features", "positions", "self_attention", "pixel_embeddings", "proposals", "roi_align", "mask_channels"),
    *("keypoint_maps", "densepose_maps", "paste", "mesh_stages", "query_attention", "sampling_points", "layers"),
    *("query_scores", "query_masks", "dot_product", "readings", "class_maps", "entropy", "matching", "duplicates"),
    "query_places",
)


def explain(
    source: str | Path,
    image: str | Path | None = None,
    *,
    split: str | None = None,
    what: Sequence[str] = (),
    out: str | Path | None = None,
    weights: str | None = None,
    score: float = 0.5,
    over_time: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Draw the views `what` (none named: all that the model has) of one image, or of a split of its dataset: a PNG
    each, and an HTML page of them all, which needs no network. -> the files written, the page first.

    source: a run folder, or a recipe with weights. out: by default the run's folder `pictures`, or pictures/NAME of a
    recipe. Labels are known where the image is one of the run's dataset. Raises UsageError for a view that there is
    not, that the model does not have, or that needs labels which are not known; ModelError and DataError where the run
    or the image can't be read.
    """
    views = views_named(what)
    if (image is None) == (split is None):
        raise UsageError("explain takes one image, or a split of the dataset", hint="--image FILE, or --split val")
    if over_time and (weights is not None or split is not None):
        raise UsageError("--over-time shows a run's own checkpoints on one image: leave --weights and --split out")
    pixels = None if image is None else read_image(image)  # before the model, which takes longer
    opened = open_model(source, weights=weights)
    if image is not None and opened.info.value_range is not None:
        pixels = read_image(image, opened.info.value_range)
    prepare_layout(opened.model)
    folder = Path(out) if out is not None else (opened.path or Path("pictures") / opened.recipe.name)
    folder = folder / "pictures" if out is None and opened.path else folder
    target = None if image is None else labels_of(opened, Path(image))
    if pixels is None:
        scene = over_split(opened, str(split), score, progress=progress)
    else:
        scene = look(opened, pixels, target, score)
    chosen = available(scene, views, named=bool(what), split=split)
    name = str(split) if image is None else Path(image).name
    stem = f"explain-{split if image is None else Path(image).stem}" + ("-over-time" if over_time else "")
    names = [f"{stem}.html", *(f"{stem}-{view}.png" for view in chosen)]
    claimed = out is not None or opened.path is None
    if claimed:
        folders.claim(folder, names, [] if image is None else [Path(image)])
    if over_time and pixels is not None:
        drawn = _over_time(opened, pixels, target, score, chosen, progress)
    else:
        drawn = draw(scene, chosen, progress=progress)
    called = opened.path.absolute().name if opened.path else opened.recipe.name
    write(folder, stem, f"{called}: {name}", scene, chosen, drawn, every_group=over_time)
    if claimed:
        folders.note_written(folder)
    return [folder / name for name in names]


def write(
    folder: Path,
    stem: str,
    title: str,
    scene: Scene,
    views: dict[str, View],
    drawn: Iterable[tuple[str, Shown]],
    *,
    every_group: bool = False,
) -> None:
    """Write STEM-VIEW.png of each view as it is drawn, and STEM.html of them all. every_group: see `sheet`."""
    sections = []
    for name, shown in drawn:
        write_png(folder / f"{stem}-{name}.png", sheet(views[name], shown, every_group=every_group))
        sections.append(Section(name, views[name], shown))
    write_bytes(folder / f"{stem}.html", explain_page(title, scene, sections).encode("utf-8"))


def views_named(what: Sequence[str]) -> dict[str, View]:
    """The named views, or all there are, in the page's order. Raises UsageError for one that there is not."""
    names = list(dict.fromkeys(what)) or plugins.names("view")
    place = {name: i for i, name in enumerate(ORDER)}
    return {
        name: plugins.call(plugins.find("view", name, "--what").build, {}, f"view {name}")
        for name in sorted(names, key=lambda name: (place.get(name, len(place)), name))
    }


def available(scene: Scene, views: dict[str, View], *, named: bool, split: str | None = None) -> dict[str, View]:
    """Those of the views that this model and this image, or this split, have. Raises UsageError where a named one is
    not among them, or where there is none."""
    has = lambda view: all(key in scene.inside for key in view.needs)
    there = {name: view for name, view in views.items() if has(view)}
    missing = next((name for name in views if name not in there), None)
    if missing is not None and (named or not there):
        if views[missing].split and split is None:
            raise UsageError(f"--what {missing} is of a whole split", hint="--split val in place of --image")
        every = views_named(())
        if split is not None:
            of_split = [name for name, view in every.items() if view.split]
            raise UsageError(
                f"--split {split}: this model's queries have no boxes, or it has no queries"
                if not any(has(every[name]) for name in of_split)
                else f"--what {missing} is of one image",
                hint=f"--split is for {', '.join(of_split)}; --image FILE has the other views",
            )
        all_there = [name for name, view in every.items() if has(view)]
        raise UsageError(f"--what {missing}: this model has no such view", hint="it has " + ", ".join(all_there))
    if scene.batch.targets is not None:
        return there
    labelled = [name for name, view in there.items() if view.labels]
    if labelled:
        why = "needs the image's labels, and it is none of the run's dataset"
        if named:
            raise UsageError(
                f"--what {labelled[0]} {why}", hint="give an image of the dataset that the run was trained on"
            )
        print(f"note: without {', '.join(labelled)}, which {why}", file=sys.stderr)
    return {name: view for name, view in there.items() if not view.labels}


def look(opened: Opened, pixels: np.ndarray, target: Target | None, score: float) -> Scene:
    """Run the model on one image, as `predict` does."""
    model, (height, width) = opened.model, pixels.shape[:2]
    if target is not None and target.size != (height, width):
        raise DataError(f"the image is {width} × {height}, its labels say {target.size[1]} × {target.size[0]}")
    batch = batch_of(model, pixels, None if target is None else decoded(target))
    with torch.inference_mode(), evaluating(model, opened.recipe):
        inside = model.inspect(batch)
    predictions = inside["predictions"]
    assert isinstance(predictions, list)
    return Scene(pixels, model, batch, inside, predictions[0], opened.info, score)


def labels_of(opened: Opened, image: Path) -> Target | None:
    """The labels of an image of the recipe's dataset; None of any other, or where the dataset is not there."""
    root = Path(opened.recipe.data.root)
    if not (root / "info.json").is_file():
        return None
    try:
        dataset = Dataset(root, task=opened.recipe.task, fields=opened.model.fields)
        own = [i for i, name in enumerate(dataset.file_names) if Path(name).name == image.name]
        at = next((i for i in own if dataset.path(i).resolve() == image.resolve()), None)
        alike = [(c.name, c.thing) for c in dataset.info.categories] == [
            (c.name, c.thing) for c in opened.info.categories
        ]
        return dataset.encoded_target(at) if at is not None and alike else None
    except DataError as error:
        print(f"note: without labels: {error}", file=sys.stderr)
        return None


def draw(scene: Scene, views: dict[str, View], *, progress: bool = True) -> Iterator[tuple[str, Shown]]:
    """(its name, what it shows) of each view, one after the other."""
    for number, (name, view) in enumerate(views.items(), start=1):
        if progress:
            print(f"{number} of {count(len(views), 'view')}: {name}", file=sys.stderr)
        yield name, view.shown(scene)


def _over_time(
    opened: Opened, pixels: np.ndarray, target: Target | None, score: float, views: dict[str, View], progress: bool
) -> Iterator[tuple[str, Shown]]:
    """Each view at all moments of the run; one moment's model at a time."""
    shown: dict[str, dict[str, Shown]] = {name: {} for name in views}
    for moment, one in moments(opened):
        if progress:
            print(f"{moment}: {count(len(views), 'view')}", file=sys.stderr)
        scene = look(one, pixels, target, score)
        for name, view in views.items():
            shown[name][moment] = view.shown(scene)
    for name, by_moment in shown.items():
        yield name, together(by_moment)
