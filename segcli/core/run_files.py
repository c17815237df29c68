"""What the files of a run folder hold: a schema for each, and the one reader of each.

Readers return what the file holds, checked; keys that a schema does not name are kept. What is wrong is a
ModelError that names the file and the place in it: whoever reads a run may count on what the schemas say.
"""

from pathlib import Path
from typing import Annotated, TypeVar, cast

import pydantic
from typing_extensions import NotRequired, TypedDict  # before Python 3.12, pydantic takes no other

from segcli.core.errors import ModelError
from segcli.core.files import parse_json, parsed, read_json, read_text

T = TypeVar("T")
LARGEST = 256 * 2**20  # bytes of one of these files; the log of a long training has some MB
MOST = 1e30  # the largest number in them: none is near it
Number = Annotated[float, pydantic.Field(strict=True, ge=-MOST, le=MOST, allow_inf_nan=False)]
Logged = Annotated[float, pydantic.Field(strict=True)]  # what training saw, also where it was not finite
Count = Annotated[int, pydantic.Field(strict=True, ge=0, lt=2**63)]
Text = Annotated[str, pydantic.Field(max_length=10_000)]
Pair = tuple[Count, Count]


class Cause(TypedDict):
    """A cause of a low score, by its name; steps: how many would be enough."""

    cause: Text
    steps: NotRequired[Count | None]


class Metrics(TypedDict):
    """metrics.json. A score of null was not measured."""

    task: NotRequired[Text | None]
    primary: Text
    metrics: dict[str, Number | None]
    per_class: NotRequired[dict[str, dict[str, Number | None]]]
    images: Count
    seconds: NotRequired[Number | None]
    split: NotRequired[Text | None]
    weights: NotRequired[Text | None]
    data_changed: NotRequired[bool]
    fingerprint: NotRequired[Text | None]
    nms: NotRequired[dict[str, dict[str, Number | None]]]
    diagnosis: NotRequired[list[Cause] | None]


class Latency(TypedDict):
    """Milliseconds an image, and how often that was measured; earlier versions stored the median alone."""

    median: Number
    p95: NotRequired[Number | None]
    repeats: NotRequired[Count]
    warmup: NotRequired[Count]


class Spread(TypedDict):
    """GFLOPs over the sizes of a dataset's images."""

    mean: Number
    sd: NotRequired[Number | None]


class Share(TypedDict):
    """How much of a machine's speed at a large matrix product a model reaches."""

    share: NotRequired[Number | None]
    gflops_per_second: NotRequired[Number | None]


class Part(TypedDict):
    """A part of a model: its parameters and GFLOPs; of one that runs for each region also how many, and GFLOPs each."""

    params: Number
    gflops: Number
    regions: NotRequired[Number | None]
    gflops_per_region: NotRequired[Number]


class Uncounted(TypedDict):
    """An operator without a formula; share: of all calls that compute. Earlier versions stored op and calls alone."""

    op: Text
    calls: Count
    share: NotRequired[Number]
    elementwise: NotRequired[bool]


class Cost(TypedDict):
    """cost.json; null is what could not be measured."""

    params: Number | None
    params_trainable: NotRequired[Number | None]
    gflops: Number | None
    gflops_paper_rule: Number | None
    gflops_input: Pair | None
    latency_ms: Latency | None
    peak_memory_mb: Number | None
    train_seconds: NotRequired[Number | None]
    train_cpu_seconds: NotRequired[Number | None]
    train_gflops: NotRequired[Number | None]
    train_steps: NotRequired[Number | None]
    images_seen: NotRequired[Number | None]
    gflops_dataset: NotRequired[Spread | None]
    machine: NotRequired[Share | None]
    measured_on: NotRequired[dict[str, object] | None]
    parts: NotRequired[dict[str, Part] | None]
    flops_operators: NotRequired[dict[str, object] | None]
    flops_uncounted: NotRequired[list[Uncounted] | None]


class Described(TypedDict):
    """The dataset as `dataset_info.DatasetInfo` writes it; whoever needs its classes has that read it."""

    name: Text
    fingerprint: NotRequired[Text]


class Weights(TypedDict):
    """Weights that a training began with."""

    source: Text
    licence: NotRequired[Text | None]


class Environment(TypedDict):
    """environment.json."""

    dataset: Described
    minutes: NotRequired[Number | None]
    object_pixels: NotRequired[Number | None]
    largest_in_input: NotRequired[Number | None]
    new_layers: NotRequired[list[str] | None]
    seed: NotRequired[int | None]
    weights: NotRequired[list[Weights] | None]


class LogEntry(TypedDict):
    """A line of log.jsonl: of a step it has "loss", of an evaluation "metrics", and "probe" where there was one."""

    step: Count
    seconds: NotRequired[Number | None]
    loss: NotRequired[Logged | None]
    gradient_norm: NotRequired[Logged | None]
    metrics: NotRequired[dict[str, Logged | None] | None]
    probe: NotRequired[dict[str, Logged | None] | None]


class Errors(TypedDict):
    """TIDE: error type -> AP50 lost, and how often."""

    lost: dict[str, Number]
    counts: dict[str, Count]


class Bin(TypedDict):
    """Detections of a range of scores."""

    bin_lower: Number
    bin_upper: Number
    avg_confidence: Number
    avg_accuracy: Number
    count: Count


class Calibration(TypedDict):
    ece: Number
    bins: list[Bin]


class Behind(TypedDict):
    """What lies behind the scores by boxes, masks or pixels, see `InstanceScores.diagnostics`."""

    confusion: NotRequired[list[list[Count]] | None]
    tide: NotRequired[Errors]
    calibration: NotRequired[Calibration]
    precision: NotRequired[dict[str, list[Number] | None]]


class Diagnostics(Behind):
    """predictions/SPLIT_diagnostics.json."""

    classes: NotRequired[list[Text]]
    kinds: NotRequired[dict[str, Behind]]


def read_metrics(run: Path) -> Metrics:
    """metrics.json. Raises ModelError."""
    return _read(run / "metrics.json", Metrics, hint=f"segcli eval {run} writes it again")


def read_diagnostics(run: Path, split: str) -> Diagnostics | None:
    """predictions/SPLIT_diagnostics.json; None where there is none. Raises ModelError."""
    path = run / "predictions" / f"{split}_diagnostics.json"
    if not path.exists():
        return None
    found = _read(path, Diagnostics, hint=f"segcli eval {run} writes it again")
    size = len(found.get("classes", []))
    for one in (found, *found.get("kinds", {}).values()):
        rows = one.get("confusion") or []
        if rows and (len(rows) not in (size - 1, size) or any(len(row) != size for row in rows)):
            raise ModelError(f"{path}: confusion: not of the {size} classes", hint=f"segcli eval {run} writes it again")
    return found


def read_cost(run: Path) -> Cost:
    """cost.json. Raises ModelError."""
    return _read(run / "cost.json", Cost)


def read_environment(run: Path) -> Environment:
    """environment.json. Raises ModelError."""
    return _read(run / "environment.json", Environment)


def read_log(run: Path) -> list[LogEntry]:
    """The entries of log.jsonl, [] without one. The last line of a killed process may be half a line: it is left out.

    Raises ModelError for any other line that is no entry.
    """
    path = run / "log.jsonl"
    if not path.exists():
        return []
    *lines, last = read_text(path, error=ModelError, largest=LARGEST).split("\n")
    entries = [_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if last.strip():
        try:
            entries.append(_entry(last, str(path)))
        except ModelError:
            return entries
    return entries


def _entry(line: str, where: str) -> LogEntry:
    value = parse_json(line, where, error=ModelError)
    parsed(LogEntry, value, where, error=ModelError)
    return cast(LogEntry, value)  # as it stands in the file, further keys among it


def _read(path: Path, kind: type[T], hint: str | None = None) -> T:
    if not path.exists():
        raise ModelError(f"{path}: missing, the run is not finished", hint=f"segcli train --resume {path.parent}")
    try:
        value = read_json(path, error=ModelError, largest=LARGEST)
        parsed(kind, value, path, error=ModelError)
    except ModelError as error:
        raise ModelError(str(error), hint=hint) from error
    return cast(T, value)  # as it stands in the file
