"""`segcli export`: a trained model as a file that runs without segcli, checked against the model on real images."""

import copy
import dataclasses
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from tqdm import tqdm

import segcli
from segcli.core.errors import ModelError, SegcliError, UsageError
from segcli.core.exported_files import Target, results, script, suffix
from segcli.core.files import why_not_written, write_text
from segcli.core.formatting import count
from segcli.data.dataset import Dataset
from segcli.engine.evaluation import batch_of, evaluating, score_model
from segcli.engine.opening import Opened, open_model, prepare_layout
from segcli.engine.run_folder import RunFolder
from segcli.export import int8 as eight_bits
from segcli.export import script as scripts
from segcli.export.agreement import Agreement, Comparison, require
from segcli.export.graph import on_fixed_canvas, trace
from segcli.models.exported.description import Description, runtime
from segcli.models.exported.exported import ExportedModel
from segcli.models.interface import Model
from segcli.types import Prediction

IMAGES = 10  # of the val split, on which a file is checked
SCALES = (1.0, 0.6, 1.4)  # they take turns at these sizes: a file takes any


@dataclasses.dataclass
class Exported:
    """What `export_run` made. file, script: paths; outputs: names; canvas: (height, width) of the network's input;
    megabytes: of the file, and of the run's weights; milliseconds: an image, from pixels to masks, of the file and of
    the run, medians; agreement, milliseconds: None without a check. scores: with int8, the primary metric and what the
    run and the file reach on val."""

    file: Path
    script: Path
    target: Target
    outputs: list[str]
    canvas: tuple[int, int]
    threads: int
    megabytes: tuple[float, float]
    milliseconds: tuple[float, float] | None = None
    agreement: Agreement | None = None
    scores: tuple[str, float | None, float | None] | None = None


def export_run(
    run: str | Path,
    *,
    to: Target,
    out: str | Path | None = None,
    int8: bool = False,
    check: bool = True,
    force: bool = False,
    progress: bool = True,
) -> Exported:
    """Write a run's model as an ONNX file, an OpenVINO pair or a PyTorch program, with a script that runs it.

    out: exported/RUN.onnx by default. check: on images of the val split, before the file is kept. int8: 8-bit weights
    and activations with ranges of train images; its scores on val are measured in place of the check. Raises UsageError
    for missing packages and for what the target has no operator for, ModelError where the file predicts otherwise.
    """
    if to != "torch":
        runtime(to)
        runtime("onnx")
        _require("onnxscript", to)
    if int8 and to == "torch":
        raise UsageError("--int8 is for --to onnx and --to openvino")
    if int8:
        eight_bits.require()
    path = Path(run)
    if not (path / "recipe.yaml").is_file():
        raise ModelError(f"{run}: is no run folder, and a run is what is exported", hint="segcli train makes one")
    file = _place(path, to, Path(out) if out else None, int8, force)
    opened = open_model(path, device="cpu")
    model, recipe = opened.model, opened.recipe
    val = _dataset(opened, recipe.eval.split) if check or int8 else None
    train = _dataset(opened, "train") if int8 else None
    canvas = on_fixed_canvas(model)
    say = _say if progress else lambda _: None
    say("tracing")
    program, outputs = trace(copy.deepcopy(model))
    description = _describe(opened, to, outputs, canvas, int8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{file.stem[:40]}.", dir=file.parent) as folder:
        part = Path(folder) / file.name
        try:
            _write(program, outputs, part, description, _images(train, eight_bits.IMAGES) if train else [], say)
        except OSError as error:
            raise SegcliError(f"{file}: can't be written: {error.strerror}", hint=why_not_written(error)) from error
        made = Exported(file, script(file), to, outputs, canvas, torch.get_num_threads(), _sizes(part, model))
        if val is not None:
            exported = ExportedModel(description, opened.info, _load(to, part))
            _measure(made, exported, opened, _images(val, IMAGES), say, progress)
            if int8:
                say("scoring both on val")
                made.scores = _scores(exported, opened, val, progress)
            else:
                assert made.agreement is not None
                require(made.agreement, file.name)
        for written in Path(folder).iterdir():
            written.replace(file.with_name(written.name))
    write_text(made.script, scripts.text(to, file, outputs))
    if to != "torch":  # whose files `eval` does not run
        _keep_results(made, opened, description)
    return made


def _place(run: Path, to: Target, out: Path | None, int8: bool, force: bool) -> Path:
    """The file to write. Raises UsageError for another target's suffix and for a file that is there."""
    file = out or Path("exported") / (run.resolve().name + ("-int8" if int8 else "") + suffix(to))
    if file.suffix.lower() != suffix(to):
        raise UsageError(
            f"--out {file}: --to {to} writes {suffix(to)} files", hint=f"--out {file.with_suffix(suffix(to))}"
        )
    written = [file, script(file), *([file.with_suffix(".bin")] if to == "openvino" else [])]
    there = next((path for path in written if path.exists()), None)
    if there is not None and not force:
        raise UsageError(f"{there} is there already", hint="--force replaces it, or another --out")
    return file


def _dataset(opened: Opened, split: str) -> Dataset:
    """A split of the run's own data, read as in training."""
    recipe, names = opened.recipe, opened.recipe.data.split_file
    dataset = Dataset(
        recipe.data.root,
        split,
        split_file=recipe.resolve(names) if names else None,
        task=recipe.task,
        fields=opened.model.fields,
    )
    dataset.info = dataclasses.replace(dataset.info, value_range=opened.info.value_range)
    return dataset


def _images(dataset: Dataset, most: int) -> list[np.ndarray]:
    """At most so many images, evenly spaced."""
    count = min(most, len(dataset))
    return [dataset.image(i * len(dataset) // count) for i in range(count)]


def _describe(opened: Opened, to: Target, outputs: list[str], canvas: tuple[int, int], int8: bool) -> Description:
    assert opened.path is not None
    run = RunFolder(opened.path)
    environment = dict(run.environment())
    cost: dict[str, Any] | None = None
    if (opened.path / "cost.json").is_file():
        cost = {**run.read_cost(), "latency_ms": None, "peak_memory_mb": None}  # the run's own, not the file's
    return Description(
        target=to,
        segcli=segcli.__version__,
        torch=torch.__version__,
        name=opened.path.resolve().name,
        task=opened.recipe.task,
        classes=list(opened.info.names),
        outputs=outputs,
        canvas=canvas,
        int8=int8,
        metrics=list(opened.model.metrics),
        licences=environment.get("weights") or [],
        recipe=yaml.safe_load(opened.recipe.to_yaml(opened.recipe.path)),
        environment=environment,
        cost=cost,
    )


def _write(
    program: "torch.export.ExportedProgram",
    outputs: list[str],
    path: Path,
    description: Description,
    images: list[np.ndarray],
    say: Callable[[str], None],
) -> None:
    """The file or files of a target. images: whose activations give the ranges of 8 bits, with `int8`."""
    if description.target == "torch":
        from segcli.export import torch as target_torch

        return target_torch.write(program, path, description)
    from segcli.export import onnx as target_onnx

    say("translating to ONNX")
    graph = target_onnx.translate(program, outputs)
    if description.target == "onnx":
        if description.int8:
            say(f"finding the ranges of 8 bits on {count(len(images), 'train image')}")
            graph = eight_bits.quantise_onnx(graph, images)
        return target_onnx.write(graph, path, description)
    from segcli.export import openvino as target_openvino

    say("converting to OpenVINO")
    converted = target_openvino.convert(graph, path.parent)
    if description.int8:
        say(f"finding the ranges of 8 bits on {count(len(images), 'train image')}")
        converted = eight_bits.quantise_openvino(converted, images)
    target_openvino.write(converted, path, description)


def _load(to: Target, path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The file that was just written, as a function."""
    if to == "torch":
        from segcli.export import torch as target_torch

        return target_torch.load(path)
    return runtime(to).load(path, torch.get_num_threads())


def _measure(
    made: Exported,
    exported: ExportedModel,
    opened: Opened,
    images: list[np.ndarray],
    say: Callable[[str], None],
    progress: bool,
) -> None:
    """Fill in `agreement` and `milliseconds`."""
    say(f"comparing with the run on {count(len(images), 'val image')}")
    comparison = Comparison()
    times: list[tuple[float, float]] = []
    model = prepare_layout(opened.model)
    with torch.inference_mode(), evaluating(model, opened.recipe):
        exported.max_detections = model.max_detections
        for i, image in enumerate(
            tqdm(images, unit="image", delay=2, leave=False, file=sys.stderr, disable=not progress)
        ):
            scale = SCALES[i % len(SCALES)]
            resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale != 1 else image
            results = []
            for one in (exported, model):
                _predict(one, resized)  # the first time a size is seen takes longer
                begun = time.perf_counter()
                found = _predict(one, resized)
                results.append((found, 1e3 * (time.perf_counter() - begun)))
            (of_file, file_ms), (of_run, run_ms) = results
            comparison.add(of_run, of_file)
            times.append((file_ms, run_ms))
    made.agreement = comparison.result()
    made.milliseconds = (statistics.median(t for t, _ in times), statistics.median(t for _, t in times))


def _predict(model: Model, image: np.ndarray) -> Prediction:
    """One image from its pixels to a Prediction."""
    return model.predict(batch_of(model, image))[0]


def _scores(
    exported: ExportedModel, opened: Opened, val: Dataset, progress: bool
) -> tuple[str, float | None, float | None]:
    """(the primary metric, the run's, the file's)."""
    recipe = opened.recipe
    both = [score_model(m, val, recipe, device="cpu", progress=progress).metrics for m in (opened.model, exported)]
    return recipe.primary, both[0].get(recipe.primary), both[1].get(recipe.primary)


def _sizes(file: Path, model: Model) -> tuple[float, float]:
    """MB of the file (or files) and of the model's weights."""
    files = sum(path.stat().st_size for path in file.parent.iterdir())
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return files / 1e6, weights / 1e6


def _keep_results(made: Exported, opened: Opened, description: Description) -> None:
    """The folder in which `eval` keeps the file's scores, with its own latency; those of an earlier file go."""
    folder = results(made.file)
    folder.mkdir(exist_ok=True)
    run = RunFolder(folder)
    run.clear()
    run.write_recipe(opened.recipe)
    run.write_environment(description.environment)
    if description.cost is not None and made.milliseconds is not None and made.agreement is not None:
        latency = {"median": round(made.milliseconds[0], 2), "repeats": made.agreement.images}
        measured = {**description.cost.get("measured_on", {}), "device": "cpu", "threads": made.threads, "batch": 1}
        run.write_cost({**description.cost, "latency_ms": latency, "measured_on": measured})


def _require(package: str, to: Target) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UsageError(f"--to {to} needs {package}", hint=f"pip install 'segcli[{to}]'") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr)
