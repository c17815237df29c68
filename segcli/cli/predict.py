"""`segcli predict`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segcli.cli import options, output
from segcli.core.errors import DataError, UsageError
from segcli.core.formatting import count

if TYPE_CHECKING:
    from segcli.commands.predict.video import VideoReport

HELP = options.example(
    "predict runs/quickstart-mask_rcnn data/shapes/images",
    "predict runs/quickstart-mask_rcnn 'photos/*.jpg' --score 0.7 --save overlay,png --out predicted",
)


def predict(
    source: options.ModelSource,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Image files, folders, patterns in quotes, web addresses, videos, a camera's number; - reads a list "
            "from stdin.",
        ),
    ],
    weights: options.Weights = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write. [dim]default: predictions/NAME, then NAME-2, …[/]"),
    ] = None,
    score: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="S", help="Keep detections with at least this score.")
    ] = 0.5,
    save: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="overlay: pictures; coco: predictions.json; png: object numbers; labels to correct: labelme, yolo, "
            "coco_annotations, cvat, geojson; crops: cut-outs; csv: counts and areas; obj, glb: meshes; texture: what "
            "people wear.",
        ),
    ] = "overlay,coco,png",
    classes: Annotated[
        str | None, typer.Option(metavar="LIST", help="Keep these classes alone. [dim]default: all[/]")
    ] = None,
    tta: Annotated[
        bool,
        typer.Option("--tta", metavar=options.FLAG, help="Predict the mirror image, too, and take the mean of both."),
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(metavar="N", help="Predict larger images in tiles of N × N pixels, and join what lies on seams."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(metavar="N", help="By how many pixels tiles overlap. [dim]default: a quarter[/]")
    ] = None,
    recursive: Annotated[
        bool,
        typer.Option("--recursive", metavar=options.FLAG, help="Read the folders inside the given folders, too."),
    ] = False,
    uncertain: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="K", help="Write the K images alone that are most worth labelling next, and why (see docs)."
        ),
    ] = None,
    pixel_size: Annotated[
        str | None,
        typer.Option(
            metavar="MM",
            help="The side of a pixel in millimetres, or with its unit, such as 0.25um: --save csv then has areas in "
            "mm², or in µm², too.",
        ),
    ] = None,
    texture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A texture of DensePose's charts, such as one of --save texture: overlays show people in it.",
        ),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Draw and save a trained model's predictions on images of your own."""
    from segcli.core.exported_files import is_exported
    from segcli.core.recipe.recipe import Recipe, find_source

    path = find_source(source)
    name = path.stem if is_exported(path) else path.name if path.is_dir() else Recipe.load(path).name

    from segcli.commands.predict import files
    from segcli.commands.predict import uncertain as uncertainty
    from segcli.commands.predict.addresses import is_address
    from segcli.commands.predict.frames import is_video
    from segcli.commands.predict.inference import How
    from segcli.commands.predict.journal import begun_by
    from segcli.commands.predict.uncertain import Doubt, most_uncertain, write_reasons
    from segcli.commands.predict.video import predict_videos
    from segcli.commands.predictor import load
    from segcli.core import folders
    from segcli.data.inputs import find_images, listed, subfolders, with_subfolders
    from segcli.sources.files import some

    if out is not None and not force and files.is_finished(out):
        raise UsageError(f"{out} holds predictions already", hint="choose another --out, or --force to replace them")
    inputs = listed(inputs, sys.stdin)
    if recursive:
        inputs = [str(given) for given in with_subfolders(inputs)]
    usual = Path("predictions") / name
    target = out or _fresh(usual, lambda folder: begun_by(folder) == inputs)
    wanted = [name.strip() for name in classes.split(",")] if classes is not None else None
    choices = [part.strip() for part in save.split(",") if part.strip()]
    videos = [one for one in inputs if is_video(one)]
    if videos and len(videos) < len(inputs):
        raise UsageError("videos and images are predicted by two calls", hint=f"first {videos[0]} alone, say")
    if videos and (tile, overlap, pixel_size, texture) != (None, None, None, None):
        raise UsageError("--tile, --overlap, --pixel-size and --texture are for images")
    if uncertain is not None and (videos or any(map(is_address, inputs))):
        raise UsageError("--uncertain chooses among images on disk, not videos and addresses")
    cut = files.tiling(tile, overlap)
    files.refuse(target, choices, pixel_size)  # what needs no model is refused before it is loaded
    if videos:
        predictor = load(path, weights)
        how = How(score, files.chosen_labels(predictor.info, wanted), cut, tta)
        kinds = ["overlay", "coco"] if choices == list(files.SAVE) else choices
        seen = predict_videos(predictor, videos, target, how, save=kinds, progress=not quiet)
        _tell_of_videos(seen, target, kinds, json)
        return
    find_images(one for one in inputs if not is_address(one))
    unread = [] if recursive else [inner for one in inputs if Path(one).is_dir() for inner in subfolders(one)]
    if unread:
        print(f"note: images in {some(unread, 3)} are not read: --recursive reads them", file=sys.stderr)
    predictor = load(path, weights)
    chosen: list[Doubt] = []
    unreadable: list[tuple[Path, str]] = []
    if uncertain is not None:
        folders.claim(target, [uncertainty.FILE])
        chosen = most_uncertain(predictor, find_images(inputs), uncertain, unreadable, progress=not quiet)
        write_reasons(chosen, target, predictor.info.names)
        choices = ["overlay", "labelme"] if choices == list(files.SAVE) else choices
    report = files.predict_files(
        predictor,
        [one.file for one in chosen] if uncertain is not None else inputs,
        target,
        score=score,
        save=choices,
        classes=wanted,
        tta=tta,
        tile=tile,
        overlap=overlap,
        pixel_size=pixel_size,
        texture=texture,
        progress=not quiet,
    )
    report.failed += unreadable
    for file, reason in report.failed if report.images else report.failed[1:]:  # else the first one is the error
        print(f"skipped: {reason if str(file) in reason else f'{file}: {reason}'}", file=sys.stderr)
    if report.failed and not report.images:
        others = f", nor any of the {len(report.failed) - 1} others" if len(report.failed) > 1 else ""
        raise DataError(report.failed[0][1] + others)
    for note in [report.left, *report.notes]:
        if note:
            print("note: " + note, file=sys.stderr)
    if report.dark:
        print("note: " + _said_of_dark(report.dark), file=sys.stderr)
    if report.shrunk:
        print("note: " + _said_of_shrunk(report.shrunk, predictor.model.preprocess.longest), file=sys.stderr)
    if json:
        failed = [{"file": str(file), "reason": reason} for file, reason in report.failed]
        facts: dict[str, object] = {
            "images": report.images,
            "detections": report.detections,
            "seconds": round(report.seconds, 2),
        }
        facts |= {"failed": failed, "left_aside": report.left}
        if uncertain is not None:
            facts["uncertain"] = [
                {"file": str(one.file), "sum": round(one.total, 4), "why": one.why(predictor.info.names)}
                for one in chosen
            ]
        output.print_json({"schema_version": 1, "out": str(target), "saved": choices, **facts})
        return
    found = f"{count(report.images, 'image')}, {count(report.detections, 'object')} with a score of at least {score:g}"
    more = f", {len(report.failed)} skipped" if report.failed else ""
    more += f", {count(report.earlier, 'image')} of an interrupted call kept" if report.earlier else ""
    typer.echo(f"{found}{more}, {report.seconds:.1f} s: {target}")
    for one in chosen[:5]:
        typer.echo(f"  {one.file}: {one.why(predictor.info.names)} ({one.total:.2f})")


def _tell_of_videos(report: "VideoReport", out: Path, saved: list[str], json: bool) -> None:
    """Print what came of videos. Raises DataError where none could be read."""
    for source, reason in report.failed if report.videos else report.failed[1:]:
        print(f"skipped: {reason if source in reason else f'{source}: {reason}'}", file=sys.stderr)
    if not report.videos:
        raise DataError(report.failed[0][1])
    if report.broken:
        lost = f"{count(report.broken, 'packet')} of frames could not be decoded: left out"
        print(f"note: {', '.join(report.damaged)}: {lost}", file=sys.stderr)
    if json:
        facts = {key: value for key, value in vars(report).items() if key != "failed"}
        failed = [{"file": source, "reason": reason} for source, reason in report.failed]
        output.print_json({"schema_version": 1, "out": str(out), "saved": saved, **facts, "failed": failed})
        return
    what = f"{count(report.videos, 'video')}, {count(report.frames, 'frame')}, {count(report.objects, 'object')}"
    typer.echo(f"{what} followed, {report.seconds:.1f} s: {out}")


def _said_of_dark(dark: list[tuple[Path, float, float]]) -> str:
    """One sentence on images that the model saw nearly black."""
    others = f" and {len(dark) - 1} more" if len(dark) > 1 else ""
    low, high = min(low for _, low, _ in dark), max(high for _, _, high in dark)
    return (
        f"{dark[0][0]}{others}: images of more than 8 bits with values from {low:g} to {high:g} look nearly black to "
        "this model, whose dataset recorded no range of values (value_range): train it on such images, or save these "
        "with 8 bits"
    )


def _said_of_shrunk(shrunk: list[tuple[Path, float]], seen: int) -> str:
    """One sentence on images in which the usual object is hardly seen. seen: pixels of the model's input a side."""
    file, pixels = min(shrunk, key=lambda one: one[1])
    others = f" and {len(shrunk) - 1} more" if len(shrunk) > 1 else ""
    return (
        f"{file}{others}: in the model's input an object of the usual size has {count(round(pixels), 'pixel')} left, "
        f"and small ones are likely missed: predict it in tiles (--tile {seen}), or train with a larger data.size"
    )


def _fresh(path: Path, interrupted: Callable[[Path], bool]) -> Path:
    """`path`, or path-2, path-3, …: the first that is not there, or in which this command was interrupted."""
    count, out = 2, path
    while out.exists() and not interrupted(out):
        count, out = count + 1, path.with_name(f"{path.name}-{count}")
    return out
