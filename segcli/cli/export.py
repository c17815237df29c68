"""`segcli export`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segcli.cli import options, output
from segcli.core.formatting import count

if TYPE_CHECKING:
    from segcli.export.export import Exported

HELP = options.example(
    "export runs/quickstart-mask_rcnn --to onnx",
    "export runs/quickstart-mask_rcnn --to openvino --int8 --out shapes.xml",
)


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.", autocompletion=options.complete_runs)],
    to: Annotated[
        Literal["onnx", "openvino", "torch"],
        typer.Option(help="What runs it: ONNX Runtime, OpenVINO, or PyTorch without segcli."),
    ],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", metavar=options.FLAG, help="Weights and activations of 8 bits; what they lose on val is measured."
        ),
    ] = False,
    no_check: Annotated[
        bool,
        typer.Option("--no-check", metavar=options.FLAG, help="Don't compare the file with the run on val images."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file. [dim]default: exported/RUN.onnx, .xml or .pt2[/]")
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a trained model as a file that runs without segcli: from an image to predictions on its pixels.

    The file is kept only where it predicts what the run predicts. A short script that runs it is written beside it.
    """
    from segcli.core.recipe.recipe import find_source
    from segcli.export.export import export_run

    path = find_source(run)
    made = export_run(path, to=to, out=out, int8=int8, check=not no_check, force=force, progress=not quiet)
    if json:
        facts = {**dataclasses.asdict(made), "file": str(made.file), "script": str(made.script)}
        output.print_json({"schema_version": 1, **facts})
        return
    typer.echo("\n".join(_lines(made)))
    if to != "torch":
        output.next_commands(f"python {output.quoted(made.script)} IMAGE", f"segcli eval {output.quoted(made.file)}")


def _lines(made: "Exported") -> list[str]:
    height, width = made.canvas
    out = [
        f"{made.file}: any image in, {', '.join(made.outputs)} out; inside it lies on {height} × {width} pixels",
        f"size: {made.megabytes[0]:.1f} MB; the run's weights have {made.megabytes[1]:.1f} MB",
    ]
    if made.milliseconds is not None:
        times = [f"{milliseconds:.0f} ms" for milliseconds in made.milliseconds]
        threads = count(made.threads, "thread")
        out.append(f"latency: {times[0]} an image, of the run {times[1]} ({threads}; from pixels to masks)")
    if made.agreement is not None:
        found = made.agreement
        parts = [
            f"boxes within {found.boxes:.3f} pixels" if found.boxes is not None else None,
            f"scores within {found.scores:.5f}" if found.scores is not None else None,
            f"IoU of masks {found.masks:.5f}" if found.masks is not None else None,
            f"{100 * found.labels:.3f} % of labels equal" if found.labels is not None else None,
            f"keypoints within {found.keypoints:.3f} pixels" if found.keypoints is not None else None,
            f"{found.unmatched} of {count(found.detections, 'detection')} without a counterpart"
            if found.detections
            else None,
        ]
        shown = ", ".join(part for part in parts if part) or "nothing was found on any of them"
        out.append(f"against the run, on {count(found.images, 'val image')} of three sizes: {shown}")
    if made.scores is not None:
        key, of_run, of_file = made.scores
        scores = ["not measured" if value is None else f"{100 * value:.1f}" for value in (of_file, of_run)]
        out.append(f"{key} on val: {scores[0]}, of the run {scores[1]}")
    return out
