"""`segcli predict`: a model on files and folders. Decoding, the forward pass, and drawing and writing overlap."""

import dataclasses
import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
from tqdm import tqdm

from segcli.commands.predict import labels
from segcli.commands.predict.addresses import FOLDER, bring, is_address, name_of
from segcli.commands.predict.inference import How, predict_each
from segcli.commands.predict.journal import FILE, Entry, Journal, begun_by, regions, stamp
from segcli.commands.predict.pictures import Legend, overlay_file, texture_files, write_pictures
from segcli.commands.predict.reading import Read
from segcli.commands.predict.tables import TABLES, PixelSize, read_pixel_size
from segcli.commands.predictor import Predictor
from segcli.core import folders
from segcli.core.coco_json import Result
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.core.files import digest, read_json, remove_parts
from segcli.core.plugins import nearest
from segcli.core.tasks import TASKS
from segcli.data.inputs import find_images, output_names, passed_over
from segcli.drawing.textures import read_atlas
from segcli.fields.body_surface import surface
from segcli.models.exported.exported import ExportedModel
from segcli.predictions import meshes
from segcli.predictions.coco_results import JsonStream, coco_annotation, coco_categories
from segcli.sources.tile import Tiling
from segcli.sources.unread import note_files
from segcli.types import Prediction, side_file
from segcli.weights.state_digest import weights_digest

SAVE = ("overlay", "coco", "png")  # by default
CHOICES = (*SAVE, *sorted({*labels.CHOICES, *meshes.KINDS, "texture"}))
SIDE = "predictions_files"  # what fields of objects store, beside predictions.json
WRITERS = 2  # threads; OpenCV and pycocotools release the interpreter while they work


@dataclasses.dataclass
class PredictReport:
    """images: how many were predicted; failed: (file, reason) of those that could not be read; detections: objects or
    segments with enough score; seconds: in all; dark: (file, least value, highest value) of those of more than 8 bits
    that the model saw nearly black, since its dataset recorded no range of values; shrunk: (file, pixels) of those in
    which an object of the training set's median size has fewer than 16 pixels left; left: a sentence on the files of
    the given folders and patterns that are no images, if there are any; earlier: how many of the images an interrupted
    call had predicted already; notes: sentences on what the formats of `save` have no place for."""

    images: int
    failed: list[tuple[Path, str]]
    detections: int
    seconds: float
    dark: list[tuple[Path, float, float]] = dataclasses.field(default_factory=list)
    shrunk: list[tuple[Path, float]] = dataclasses.field(default_factory=list)
    left: str | None = None
    earlier: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)


def predict_files(
    predictor: Predictor,
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    score: float = 0.5,
    save: Sequence[str] = SAVE,
    classes: Sequence[str] | None = None,
    tta: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    pixel_size: str | None = None,
    texture: str | Path | None = None,
    progress: bool = True,
) -> PredictReport:
    """Predict files, folders, patterns (see data/inputs.py) and web addresses and write below `out`, NAME being the
    file's stem:

    - overlay: overlays/NAME.jpg, to be looked at (small images enlarged; .png beyond 65,000 pixels a side);
    - coco: predictions.json, which pycocotools.COCO opens, with "annotations" (COCO results with ids and areas: RLE
      masks, source category ids), "images" (id, file_name as given, output = NAME, height, width) and "categories";
    - png: masks/NAME.png, where the model gives masks: 16-bit object numbers, 0 = none, better ones on top; for
      the semantic task labels, of 8 bits for up to 254 classes, of 16 for more; and masks/legend.json: NAME.png ->
      number -> {"label", "score"};
    - obj, glb: meshes/NAME/1.obj, 2.obj, …, see predictions/meshes.py; for models that give meshes;
    - texture: textures/NAME/1.png, …: what people wear, see drawing/textures.py; for models of DensePose;
    - labelme, yolo, coco_annotations, cvat, geojson, crops: a folder of that name, csv: two tables; see `labels.py`.

    Only detections with at least `score` are kept, and of `classes` (names; None: all). tta: the mean of the prediction
    and of that for the mirror image. tile, overlap: images larger than that are predicted in tiles of so
    many pixels a side (see tiles.py); overlap None: a quarter of it. pixel_size: the side of a pixel for the
    tables, such as "0.25um", see `read_pixel_size`. texture: such an atlas; overlays are then the images with it on
    people.
    A file that can't be read is reported and skipped; memory does not grow with the number of images. A call that was
    interrupted goes on where it was, if everything is as it was. Raises, before any work, UsageError for what the model
    can't do, DataError where an input names nothing, and where a file that would be written is an input, or is there
    and not of an earlier call.
    """
    begun = time.perf_counter()
    out = Path(out)
    side = refuse(out, save, pixel_size)
    how = How(score, chosen_labels(predictor.info, classes), tiling(tile, overlap), tta)
    task = TASKS[predictor.recipe.task]
    if tta and (not task.objects or task.fields):
        raise UsageError(f"--tta: two views of a {predictor.recipe.task} prediction have no mean", hint="leave it away")
    solid = [kind for kind in meshes.KINDS if kind in save]
    if solid and "mesh" not in predictor.model.fields:
        raise UsageError(f"--save {solid[0]}: this model gives no meshes", hint="segcli recipes --task mesh lists some")
    atlas = _atlas(predictor, texture, save)
    inputs = list(inputs)
    report = PredictReport(0, [], 0, 0.0)
    addresses = [name_of(str(one)) for one in inputs if is_address(one)]
    if addresses:
        folders.claim(out, [f"{FOLDER}/{name}" for name in addresses])
    at, origin = bring(inputs, out, again=begun_by(out) is not None, failed=report.failed)
    files = find_images(at)
    names = output_names(files)
    labels.refuse(out, save, files)
    stored = [f"{SIDE}/{side_file(i + 1, field)}" for i in range(len(files)) for field in predictor.model.fields]
    folders.claim(out, [*_outputs(names, save), *stored], files, lambda: _of_before(out))
    remove_parts(out, out / "masks", out / "overlays")
    report.left = note_files(map(str, passed_over(at, files)))
    model = predictor.model
    settings = {
        "weights": model.description.digest if isinstance(model, ExportedModel) else weights_digest(model.state_dict()),
        "model": predictor.recipe.model_dump(mode="json")["model"],
        "input": [dataclasses.asdict(model.preprocess), model.max_detections],
        "classes": predictor.info.names,
        "inputs": [str(given) for given in inputs],
        "how": dataclasses.asdict(how),
        "save": sorted(save),
        "texture": None if texture is None else digest(Path(texture)),
    }
    writing: deque[tuple[Entry, Future[Legend | None]]] = deque()
    bar = tqdm(
        total=len(files) + len(report.failed), desc="predicting", unit="image", disable=not progress, file=sys.stderr
    )

    def finish(limit: int) -> None:
        """Take images from the writers, in order, until at most `limit` are under way there."""
        while len(writing) > limit:
            entry, job = writing.popleft()
            journal.add({**entry, "legend": cast("dict[str, dict[str, str | float]] | None", job.result())})
            bar.update(len(journal.places) + len(report.failed) - bar.n)

    # the threads end first, then the files are closed, or left for the next call after an error
    with Journal(out, settings) as journal:
        journal.begin(files, names)
        _drop_unfinished(journal, out, save)
        report.earlier = len(journal.places)
        waiting = ((i, file) for i, file in enumerate(files) if i not in journal.places)
        bar.update(report.earlier)
        with bar, ThreadPoolExecutor(WRITERS) as writers:
            for item, found, shrunk in predict_each(predictor, waiting, report.failed, how):
                file, name = files[item.position], names[item.position]
                given = origin.get(file, str(file))
                # regions of maps take time
                wanted = found.instances is not None or not labels.CHOICES.isdisjoint(save)
                results = regions(found, predictor.info, out / SIDE) if wanted else []
                job = writers.submit(write_pictures, found, item.image, predictor.info, out, name, save, atlas)
                writing.append((_entry(item, (file, given), name, found, shrunk, results), job))
                finish(0 if how.tiling else 2 * WRITERS)
            finish(0)
        for entry in journal.entries():
            report.images += 1
            report.detections += entry["count"]
            if entry["dark"] is not None:
                report.dark.append((Path(entry["given"]), *entry["dark"]))
            if entry["shrunk"] is not None:
                report.shrunk.append((Path(entry["given"]), entry["shrunk"]))
        _write_files(journal, predictor.info, out, save)
        report.notes = labels.write(journal.entries, predictor.info, out, save, side)
    folders.note_written(out)
    report.seconds = time.perf_counter() - begun
    return report


def _entry(
    item: Read, file: tuple[Path, str], name: str, kept: Prediction, shrunk: float | None, results: list[Result]
) -> Entry:
    """file: where it is, and what the user called it."""
    return {
        "position": item.position,
        "file": str(file[0]),
        "given": file[1],
        "name": name,
        "stamp": stamp(file[0]),
        "size": kept.size,
        "results": cast("list[dict[str, object]]", results),
        "listed": kept.instances is not None,
        "count": _count(kept),
        "legend": None,
        "dark": item.dark,
        "shrunk": shrunk,
    }


def _drop_unfinished(journal: Journal, out: Path, save: Sequence[str]) -> None:
    """Predict again what an earlier call noted and whose pictures are gone since."""
    for entry in [*journal.entries()]:
        pictures = [overlay_file(out, entry["name"], entry["size"])] if "overlay" in save else []
        pictures += [out / "masks" / f"{entry['name']}.png"] if entry["legend"] is not None else []
        if not all(picture.is_file() for picture in pictures):
            del journal.places[entry["position"]]


def _write_files(journal: Journal, info: DatasetInfo, out: Path, save: Sequence[str]) -> None:
    """predictions.json and masks/legend.json."""
    images: list[dict[str, object]] = []
    with (
        JsonStream(out / "predictions.json", '{"annotations": [', needed="coco" in save) as coco,
        JsonStream(out / "masks" / "legend.json", "{", "}", needed=False) as legend,
    ):
        for entry in journal.entries():
            if entry["legend"] is not None:
                legend.add(entry["legend"], f"{entry['name']}.png")
            if "coco" not in save:
                continue
            height, width = entry["size"]
            image = {"id": entry["position"] + 1, "file_name": entry["given"], "output": entry["name"]}
            images.append({**image, "height": height, "width": width})
            for result in cast(list[Result], entry["results"]) if entry["listed"] else []:
                coco.add(coco_annotation(result, coco.count + 1))
        coco.tail = '],\n"images": ' + json.dumps(images, ensure_ascii=False)
        coco.tail += ',\n"categories": ' + json.dumps(coco_categories(info), ensure_ascii=False) + "}"


def refuse(out: Path, save: Sequence[str], pixel_size: str | None = None) -> PixelSize | None:
    """Raise UsageError for a kind of file that is not written, for a folder that is a run's or a dataset's, and for a
    pixel size that no table would have, or that is none; -> that size."""
    if pixel_size is not None and "csv" not in save:
        raise UsageError("--pixel-size goes with --save csv")
    for choice in save:
        if choice not in CHOICES:
            raise UsageError(f"--save {choice} is unknown", hint=nearest(choice, list(CHOICES)))
    for name, kind in (("recipe.yaml", "a run folder"), ("info.json", "a prepared dataset")):
        if (out / name).is_file():
            raise UsageError(f"{out} is {kind}: predictions would lie among its files", hint="choose another --out")
    return None if pixel_size is None else read_pixel_size(pixel_size)


def chosen_labels(info: DatasetInfo, classes: Sequence[str] | None) -> list[int] | None:
    """The labels of classes by name. Raises UsageError for one that the model does not know."""
    for name in classes or ():
        if name not in info.names:
            raise UsageError(f"--classes {name}: the model knows no such class", hint=nearest(name, info.names))
    return None if classes is None else [label for label, name in enumerate(info.names) if name in classes]


def tiling(tile: int | None, overlap: int | None) -> Tiling | None:
    """How images are cut. Raises UsageError for what leaves no step."""
    if tile is None:
        if overlap is not None:
            raise UsageError("--overlap goes with --tile")
        return None
    return Tiling(tile, tile // 4 if overlap is None else overlap)


def _atlas(predictor: Predictor, texture: str | Path | None, save: Sequence[str]) -> np.ndarray | None:
    """The texture that people get. Raises UsageError for a model without DensePose and where no overlay would show it,
    DataError for a file that is none."""
    asked = "--texture" if texture is not None else "--save texture" if "texture" in save else None
    if asked and "densepose" not in predictor.model.fields:
        raise UsageError(
            f"{asked}: this model finds no body surface", hint="segcli recipes --task densepose lists some"
        )
    if texture is None:
        return None
    if "overlay" not in save:
        raise UsageError("--texture goes with --save overlay")
    return read_atlas(Path(texture), surface(predictor.info.declared.get("densepose", {})).charts)


def is_finished(out: Path) -> bool:
    """Whether an earlier call has ended there; one that was interrupted goes on with the same command."""
    return not (out / FILE).is_file() and (folders.is_written(out) or (out / "predictions.json").is_file())


def _of_before(out: Path) -> list[str]:
    """What an earlier call wrote that noted nothing (on another machine, say): what its predictions.json speaks of."""
    try:
        found = read_json(out / "predictions.json")
        names = [str(image["output"]) for image in found["images"] if found["annotations"] is not None]
    except (DataError, KeyError, TypeError):
        return []
    return _outputs(names, SAVE)


def _outputs(names: Sequence[str], save: Sequence[str]) -> list[str]:
    """The files that `predict_files` may write below its folder."""
    out = [FILE, *(["predictions.json"] if "coco" in save else []), *(TABLES if "csv" in save else [])]
    if "overlay" in save:  # which of the two, an image's size decides
        out += [f"overlays/{name}{suffix}" for name in names for suffix in (".jpg", ".png")]
    if "texture" in save:
        out += [file.as_posix() for name in names for file in texture_files(Path(), name)]
    kinds = [kind for kind in meshes.KINDS if kind in save]
    out += [f"meshes/{name}/{i}.{kind}" for name in names for i in range(1, meshes.MOST + 1) for kind in kinds]
    return out + (["masks/legend.json", *(f"masks/{name}.png" for name in names)] if "png" in save else [])


def _count(prediction: Prediction) -> int:
    if prediction.panoptic is not None:
        return len(prediction.panoptic.segments)
    return 0 if prediction.instances is None else len(prediction.instances)
