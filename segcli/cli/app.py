"""The program `segcli`: wires the commands together. Nothing here or in a command's signature imports torch."""

import os
import sys
import warnings
from typing import Annotated

import typer
from typer.core import TyperGroup

import segcli
from segcli.cli import compare, evaluate, export, models, options, output, predict, prepare, recipes, train, visualize
from segcli.cli.errors import guard
from segcli.cli.utf8 import ensure
from segcli.core import own_path
from segcli.core.parent import VARIABLE, end_with

app = typer.Typer(
    name="segcli",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    **options.example("train quickstart/mask_rcnn", "compare runs/quickstart-mask_rcnn quickstart/faster_rcnn"),
)
app.command("prepare", **prepare.HELP)(prepare.prepare)
app.command("train", **train.HELP)(train.train)
app.command("eval", **evaluate.HELP)(evaluate.evaluate)
app.command("predict", **predict.HELP)(predict.predict)
app.add_typer(visualize.app, name="visualize")
app.command("compare", **compare.HELP)(compare.compare)
app.command("export", **export.HELP)(export.export)
app.command("recipes", **recipes.HELP)(recipes.recipes)
app.command("models", **models.HELP)(models.models)


def _version(value: bool) -> None:
    if not value:
        return
    import importlib.metadata

    lines = [f"segcli {segcli.__version__}"]
    lines += [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision")]
    import torch

    if torch.cuda.is_available():
        lines.append(f"device cuda ({torch.cuda.get_device_name()})")
    elif torch.backends.mps.is_available():
        lines.append("device mps")
    else:
        lines.append(f"device cpu ({torch.get_num_threads()} threads)")
    typer.echo("\n".join(lines))
    raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar=options.FLAG,
            callback=_version,
            is_eager=True,
            help="Print the versions of segcli, torch and torchvision, and the device.",
        ),
    ] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Images and labels to trained, scored and compared segmentation models, on the machine that you have."""


def command() -> TyperGroup:
    """The program as a click command, for the reference page and tests."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def run(args: list[str]) -> int:
    """Run `segcli ARGS…` in this process. -> its exit code."""
    args = args or ["--help"]
    flags = args[: args.index("--")] if "--" in args else args
    return guard(lambda: command().main(args, prog_name="segcli", standalone_mode=False), debug="--debug" in flags)


def _show_warnings_as_notes() -> None:
    """A warning is a note, and ends no command, here or in a process started from here: a library's deprecation is no
    reason to lose a training because the shell says PYTHONWARNINGS=error."""
    warnings.formatwarning = lambda message, *_, **__: f"note: {message}\n"
    kept = [rule for rule in warnings.filters if rule[0] != "error"]
    warnings.resetwarnings()
    list.extend(warnings.filters, kept)  # type: ignore[arg-type]
    sys.warnoptions[:] = _not_errors(sys.warnoptions)
    os.environ["PYTHONWARNINGS"] = ",".join(_not_errors(os.environ.get("PYTHONWARNINGS", "").split(",")))


def _not_errors(options: list[str]) -> list[str]:
    """Those of python's -W options that make no warning an error; its actions may be shortened."""
    return [option for option in options if not option.strip().startswith("e")]


def main() -> None:
    """The console script."""
    ensure()
    own_path.leave_out_working_folder()
    if (parent := os.environ.pop(VARIABLE, "")).isdecimal():
        end_with(int(parent))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without ★ shows ? instead of failing
    _show_warnings_as_notes()
    sys.stdout = output.Shown(sys.stdout)
    if sys.stderr.isatty():
        sys.stderr = output.Shown(sys.stderr)
        sys.exit(run(sys.argv[1:]))
    os.environ.setdefault("TQDM_MININTERVAL", "10")  # seconds between the lines of a progress bar in a log
    lines = output.PlainLines(sys.stderr)
    sys.stderr = output.Shown(lines)
    code = run(sys.argv[1:])
    lines.finish()
    sys.exit(code)


if __name__ == "__main__":
    main()
