"""`segcli prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segcli.cli import options, output, tables
from segcli.core.errors import DataError, UsageError
from segcli.core.formatting import count

if TYPE_CHECKING:
    from segcli.data.findings import Report

FORMATS = (
    "coco, sa1b, voc, yolo, labelme, via, cvat, label_studio, supervisely, darwin, geojson, open_images, run_lengths, "
    "masks, pairs, semantic, panoptic, instance_maps, cityscapes, camvid, pix3d"
)
MASKS = ("instances", "classes", "binary", "split-components")
HELP = options.example(
    "prepare shapes",
    "prepare my_photos --out data/mine",
    "prepare annotations.json --split train=0.9,val=0.1",
    "prepare scans --tile 512 --overlap 64",
    "prepare scans --masks split-components --threshold 128",
    "prepare my_photos --check",
    "prepare my_photos --fix",
    "prepare data/mine --to yolo --out mine_yolo",
    "prepare data/mine corrected --out data/more",
)


def prepare(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="A known dataset's name (made or downloaded), or a file or folder in a supported format. Several, "
            "prepared ones among them, are merged: classes by name, each image in its own split.",
            autocompletion=options.complete_prepare,
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="What to write. [dim]default: data/NAME[/]")] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"The format, where it is not to be detected: {FORMATS}.",
            autocompletion=options.complete_formats,
        ),
    ] = None,
    source_path: Annotated[
        Path | None,
        typer.Option(
            "--source", metavar="PATH", help="Where a known dataset lies on this disk: nothing is downloaded."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES", help="Divide at random, such as train=0.8,val=0.2. [dim]default: as it comes[/]"
        ),
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            metavar="KEY|FILE",
            help="A text file that names the val images, one a line; or how to draw: class (spread evenly), folder, a "
            "field of the images, or a pattern of file names, whose images then stay together.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random division, or of the embedded data.")] = 0,
    link: Annotated[
        bool, typer.Option("--link", metavar=options.FLAG, help="Copy no image: read them where they are.")
    ] = False,
    tile: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Cut images into tiles of this size, objects with them.")
    ] = None,
    overlap: Annotated[int, typer.Option(metavar="PIXELS", help="By how much neighbouring tiles overlap.")] = 0,
    check: Annotated[
        bool,
        typer.Option(
            "--check", metavar=options.FLAG, help="Write nothing: only report what is wrong or doubtful in the data."
        ),
    ] = False,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", metavar=options.FLAG, help="Repair what is wrong, and say what was done to which annotation."
        ),
    ] = False,
    trust_paths: Annotated[
        bool,
        typer.Option(
            "--trust-paths",
            metavar=options.FLAG,
            help="The files are your own: follow absolute names, .. and links that lead out of SOURCE.",
        ),
    ] = False,
    drop: Annotated[
        bool,
        typer.Option(
            "--drop",
            metavar=options.FLAG,
            help="With --fix: leave out what can't be mended, also images, and more than 5 % of the objects.",
        ),
    ] = False,
    crowd: Annotated[
        str | None,
        typer.Option(
            metavar="as-objects", help="Read crowd regions as objects: CVAT writes masks drawn with a brush as crowds."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="Write coco, yolo, labelme or cvat instead of segcli's own folder."),
    ] = None,
    masks: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What values of mask pictures are: instances (ids), classes, binary (two classes) or split-components "
            "(every separate region is an object). [dim]default: decided from many files[/]",
        ),
    ] = None,
    ignore: Annotated[
        str | None,
        typer.Option(metavar="VALUE", help="A value of mask pictures that means nothing, such as 255; or 0,255."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="VALUE", help="Mask pictures with soft edges: what is inside, from this value on."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the format or of the embedded data, such as encoding=cp949; again for each more.",
        ),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Turn images and labels from any supported source into segcli's dataset folder."""
    from segcli.commands import prepare
    from segcli.core.recipe.recipe_file import parse_overrides

    if masks is not None and masks not in MASKS:
        raise UsageError(f"--masks {masks}: is none of {', '.join(MASKS)}")
    mask_settings = {"masks": masks, "ignore": _whole(ignore), "threshold": threshold}
    settings = {key: value for key, value in mask_settings.items() if value is not None}
    more = parse_overrides(set_ or [])
    of_generators = {"seed": seed, "split": split, "source": source_path}
    given = settings.keys() | {key for key, value in of_generators.items() if value}
    if both := sorted(given & more.keys()):
        raise UsageError(f"--set {both[0]}=… and --{both[0]} say the same setting twice", hint="give one of them")
    settings |= more
    writes = {"--out": out, "--split": split, "--split-by": split_by, "--link": link, "--tile": tile}
    writes |= {"--overlap": overlap, "--force": force, "--drop": drop, "--crowd": crowd}
    _refuse_together(check, fix, drop, to, link, [flag for flag, value in writes.items() if value])
    if len(source) > 1 and (alone := "--check" if check else "--to" if to is not None else None):
        raise UsageError(f"{alone} goes with one source alone", hint="merge first, then give it the merged folder")
    if check:
        report = prepare.diagnose(
            source[0], format=format, source_path=source_path, seed=seed, settings=settings, trusted=trust_paths
        )
        return _show_report(source[0], report, json)
    chosen = prepare.Options(
        format=format,
        source_path=source_path,
        split=split,
        split_by=split_by,
        seed=seed,
        tile=tile,
        overlap=overlap,
        crowd=crowd,
        trusted=trust_paths,
        settings=settings,
    )
    if to is not None:
        written = prepare.export(source[0], to, out, force=force, options=chosen)
        if json:
            return output.print_json({"schema_version": 1, **written})
        return output.show(*tables.exported(written))
    root = prepare.prepare(source, out, link=link, force=force, fix=fix, drop=drop, **chosen)
    facts = prepare.describe(root)
    if json:
        return output.print_json({"schema_version": 1, **facts})
    output.show(*tables.dataset(facts))
    if fix:
        output.show(*tables.repairs(facts["repairs"]), *tables.findings(prepare.diagnose(str(root)).to_json()))
    if facts["samples"]:
        output.show(f"samples: {facts['samples']} (do the labels lie where they should?)")
    output.next_commands(f"segcli visualize data {output.quoted(root)}", facts["next"])


def _refuse_together(check: bool, fix: bool, drop: bool, to: str | None, link: bool, writes: list[str]) -> None:
    """Raise UsageError for flags that exclude one another; writes: those given that say what is written, and how."""
    if check and fix:
        hint = "--fix checks what it wrote by itself"
        raise UsageError("--check writes nothing, so it goes without --fix", hint=hint)
    if check and to is not None:
        raise UsageError("--check and --to exclude each other")
    if check and writes:
        raise UsageError(f"--check writes nothing, so it goes without {', '.join(writes)}")
    if to is not None and fix:
        raise UsageError("--fix and --to exclude each other", hint="--fix first, then --to on the folder that it wrote")
    if drop and not fix:
        raise UsageError("--drop says what --fix may do: it goes with --fix alone")
    if to is not None and link:
        raise UsageError("--to copies the images, so it goes without --link")


def _show_report(source: str, report: "Report", json: bool) -> None:
    """Print what --check found. Raises DataError where there are errors."""
    document = report.to_json()
    if json:
        output.print_json(document)
    else:
        output.show(*tables.findings(document))
    if not report.ok:
        errors = sum(f.count for f in report.findings if f.severity == "error")
        raise DataError(f"{source}: {count(errors, 'error')} in the data", hint="see the report above")


def _whole(values: str | None) -> list[int] | None:
    """255 or 0,255 as numbers."""
    if values is None:
        return None
    parts = [part.strip() for part in values.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError(f"--ignore {values}: is no value of a picture, such as 255")
    return [int(part) for part in parts]
