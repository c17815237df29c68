"""A model on videos and cameras: every frame is predicted, and objects keep their numbers from frame to frame."""

import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from segcli.commands.predict.frames import Film, Frames, is_camera
from segcli.commands.predict.inference import How, predict_images
from segcli.commands.predict.linking import Links
from segcli.commands.predictor import Predictor
from segcli.core import folders
from segcli.core.coco_json import Result
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.core.files import part_beside
from segcli.core.tasks import TASKS
from segcli.data.inputs import output_names
from segcli.drawing.colours import Rgb, oklch
from segcli.drawing.overlays import draw
from segcli.predictions.coco_results import JsonStream, coco_annotation, coco_categories, coco_results
from segcli.types import Prediction

SAVE = ("overlay", "coco", "csv")


@dataclasses.dataclass
class VideoReport:
    """videos, frames: how many were predicted; objects: numbers given; broken: packets of frames that could not be
    decoded, damaged: the sources that have them; failed: (source, reason) of what could not be read at all; seconds: in
    all."""

    videos: int = 0
    frames: int = 0
    objects: int = 0
    broken: int = 0
    damaged: list[str] = dataclasses.field(default_factory=list)
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def predict_videos(
    predictor: Predictor,
    sources: Sequence[str],
    out: Path,
    how: How,
    *,
    save: Sequence[str] = ("overlay", "coco"),
    progress: bool = True,
) -> VideoReport:
    """Predict videos' files and cameras (by number, until Ctrl-C) and write below `out`, NAME being the file's stem:

    - overlay: NAME.mp4, with every frame at its time; the number of an object stands at its name;
    - coco: NAME.json: "videos", "images" (frames: id, frame, seconds), "annotations" as in predictions.json, with
      "track_id" besides, and "categories";
    - csv: NAME.csv: a row an object and frame.

    A source that can't be read is reported and skipped. Raises UsageError for other kinds of `save`, for models without
    objects, and, where NAME.json or NAME.csv is wanted, for fields of objects that are kept in files beside; DataError
    where a file is there that is not of an earlier call.
    """
    begun = time.perf_counter()
    for kind in save:
        if kind not in SAVE:
            raise UsageError(f"--save {kind}: is not written of videos", hint=f"--save {','.join(SAVE)}")
    names = output_names(Path(f"camera-{one}" if is_camera(one) else one) for one in sources)
    suffix = {"overlay": ".mp4", "coco": ".json", "csv": ".csv"}
    if not TASKS[predictor.recipe.task].objects:
        raise UsageError(f"a {predictor.recipe.task} model gives no objects that could be followed over frames")
    outputs = [f"{name}{suffix[kind]}" for name in names for kind in save]
    folders.claim(out, outputs, [Path(one) for one in sources if not is_camera(one)])
    report = VideoReport()
    for source, name in zip(sources, names, strict=True):
        try:
            with Frames(source) as frames:
                _predict(predictor, frames, out / name, how, save, report, progress)
                if frames.broken:
                    report.broken += frames.broken
                    report.damaged.append(source)
        except DataError as error:
            report.failed.append((source, str(error)))
    folders.note_written(out)
    report.seconds = time.perf_counter() - begun
    return report


def _predict(
    predictor: Predictor, frames: Frames, out: Path, how: How, save: Sequence[str], report: VideoReport, progress: bool
) -> None:
    """One source: what it gives is written as it comes, and appears whole at the end."""
    links, info = Links(), predictor.info
    images: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        coco = JsonStream(out.with_name(f"{out.name}.json"), '{"annotations": [', needed="coco" in save)
        stack.enter_context(coco)
        film = table = None
        if "overlay" in save:
            film = stack.enter_context(Film(stack.enter_context(_whole(out.with_name(f"{out.name}.mp4"))), frames.rate))
        if "csv" in save:
            part = stack.enter_context(_whole(out.with_name(f"{out.name}.csv")))
            table = csv.writer(stack.enter_context(open(part, "w", encoding="utf-8-sig", newline="")))
            table.writerow(["frame", "seconds", "number", "class", "score", "x", "y", "width", "height", "area_pixels"])
        bar = stack.enter_context(
            tqdm(total=frames.total or None, desc="predicting", unit="frame", disable=not progress, file=sys.stderr)
        )
        camera = is_camera(frames.source)
        # Ctrl-C ends a camera's recording, wherever it comes
        with contextlib.suppress(KeyboardInterrupt) if camera else contextlib.nullcontext():
            for number, (seconds, image, prediction) in enumerate(_predicted(predictor, frames, how), 1):
                found = prediction.instances
                assert found is not None
                numbers = links.add(found)
                if film is not None:
                    colours = [track_colour(track) for track in numbers]
                    film.add(
                        seconds, draw(image, prediction, info, width=image.shape[1], colours=colours, numbers=numbers)
                    )
                height, width = prediction.size
                place: dict[str, object] = {"id": number, "video_id": 1, "frame": number - 1}
                images.append({**place, "seconds": round(seconds, 4), "height": height, "width": width})
                written = coco.needed or table is not None
                for result, track in zip(_results(prediction, info), numbers, strict=True) if written else ():
                    entry = {**coco_annotation(result, coco.count + 1), "image_id": number, "track_id": track}
                    if coco.needed:
                        coco.add(entry)
                    if table is not None:
                        name, box = info.names[info.source_ids.index(result["category_id"])], result["bbox"]
                        row = [number - 1, f"{seconds:.4f}", track, name, f"{result['score']:.4f}"]
                        table.writerow([*row, *(f"{v:g}" for v in box), entry["area"]])
                report.frames += 1
                bar.update()
        if not images:
            raise DataError(f"{frames.source}: holds no frame that can be decoded")
        video = {"id": 1, "name": frames.source, "frames_per_second": float(frames.rate), "length": len(images)}
        coco.tail = '],\n"videos": ' + json.dumps([video], ensure_ascii=False) + ',\n"images": ' + json.dumps(images)
        coco.tail += ',\n"categories": ' + json.dumps(coco_categories(info), ensure_ascii=False) + "}"
    report.videos += 1
    report.objects += links.count


def _predicted(predictor: Predictor, frames: Frames, how: How) -> Iterator[tuple[float, np.ndarray, Prediction]]:
    """(seconds, image, prediction) of every frame; a camera's one at a time."""
    source = iter(frames)
    size = 1 if is_camera(frames.source) else predictor.batch_size
    while batch := [*itertools.islice(source, size)]:
        found = predict_images(predictor, [image for _, image in batch], how)
        for (seconds, image), prediction in zip(batch, found, strict=True):
            yield seconds, image, prediction


def _results(prediction: Prediction, info: DatasetInfo) -> list[Result]:
    """One frame's detections. Raises UsageError for fields that are kept in files beside."""
    try:
        return coco_results(prediction, info)
    except UsageError as error:
        fields = ", ".join(prediction.instances.fields) if prediction.instances is not None else ""
        raise UsageError(f"json and csv of videos have no place for {fields}", hint="--save overlay") from error


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file that takes its name at the end, or is gone after an error."""
    part = part_beside(path)
    try:
        yield part
        os.chmod(part, 0o644)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@functools.cache
def track_colour(number: int) -> Rgb:
    """A colour that an object keeps."""
    return oklch(0.74 - 0.06 * (number % 2), 0.17, 360 * (0.11 + number * 0.618034))
