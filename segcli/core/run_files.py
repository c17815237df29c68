"""What the files of a run folder hold: a schema for each, and the one reader of each.

Readers return plain dicts, checked; keys that a schema does not name are kept as they are. What is wrong is a
ModelError that names the file and the place in it: whoever reads a run may count on what the schemas say.
"""

from pathlib import Path
from typing import Annotated, Any

import pydantic

from segcli.core.errors import ModelError
from segcli.core.files import parse_json, parsed, read_json, read_text

LARGEST = 256 * 2**20  # bytes of one of these files; the log of a long training has some MB
MOST = 1e30  # the largest number in them: none is near it
Number = Annotated[float, pydantic.Field(strict=True, ge=-MOST, le=MOST, allow_inf_nan=False)]
Logged = Annotated[float, pydantic.Field(strict=True)]  # what training saw, also where it was not finite
Count = Annotated[int, pydantic.Field(strict=True, ge=0, lt=2**63)]
Text = Annotated[str, pydantic.Field(max_length=10_000)]
Pair = tuple[Count, Count]


class _Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", coerce_numbers_to_str=False)


class Found(_Open):
    """A cause of a low score, by its name."""

    cause: Text


class Metrics(_Open):
    """metrics.json. A score of null was not measured."""

    task: Text | None = None
    primary: Text
    metrics: dict[str, Number | None]
    per_class: dict[str, dict[str, Number | None]] = {}
    images: Count
    seconds: Number | None = None
    split: Text | None = None
    weights: Text | None = None
    data_changed: bool = False
    fingerprint: Text | None = None
    nms: dict[str, dict[str, Number | None]] = {}
    diagnosis: list[Found] | None = None


class Latency(_Open):
    """Milliseconds."""

    median: Number
    p95: Number | None = None


class Spread(_Open):
    """GFLOPs over a dataset's images."""

    mean: Number
    sd: Number | None = None


class Share(_Open):
    """How much of the machine's speed a model reaches."""

    share: Number | None = None


class Cost(_Open):
    """cost.json; null is what could not be measured."""

    params: Number | None
    params_trainable: Number | None = None
    gflops: Number | None
    gflops_paper_rule: Number | None
    gflops_input: Pair | None
    latency_ms: Latency | None
    peak_memory_mb: Number | None
    train_seconds: Number | None = None
    train_cpu_seconds: Number | None = None
    train_gflops: Number | None = None
    train_steps: Number | None = None
    images_seen: Number | None = None
    gflops_dataset: Spread | None = None
    machine: Share | None = None
    measured_on: dict[str, object] | None = None
    parts: dict[str, object] | None = None
    flops_operators: dict[str, object] | None = None
    flops_uncounted: list[object] | None = None


class Described(_Open):
    """The dataset as `dataset_info.DatasetInfo` writes it; whoever needs its classes has that read it."""

    name: Text
    fingerprint: Text = ""


class Environment(_Open):
    """environment.json."""

    dataset: Described
    minutes: Number | None = None
    seed: int | None = None
    weights: list[dict[str, object]] | None = None


class LogEntry(_Open):
    """A line of log.jsonl: of a step it has "loss", of an evaluation "metrics"."""

    step: Count
    seconds: Number | None = None
    loss: Logged | None = None
    gradient_norm: Logged | None = None
    metrics: dict[str, Logged | None] | None = None


def read_metrics(run: Path) -> dict[str, Any]:
    """metrics.json. Raises ModelError."""
    return _read(run / "metrics.json", Metrics, hint=f"segcli eval {run} writes it again")


def read_cost(run: Path) -> dict[str, Any]:
    """cost.json. Raises ModelError."""
    return _read(run / "cost.json", Cost)


def read_environment(run: Path) -> dict[str, Any]:
    """environment.json. Raises ModelError."""
    return _read(run / "environment.json", Environment)


def read_log(run: Path) -> list[dict[str, Any]]:
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


def _entry(line: str, where: str) -> dict[str, Any]:
    value = parse_json(line, where, error=ModelError)
    parsed(LogEntry, value, where, error=ModelError)
    return dict(value)


def _read(path: Path, kind: type[_Open], hint: str | None = None) -> dict[str, Any]:
    if not path.exists():
        raise ModelError(f"{path}: missing, the run is not finished", hint=f"segcli train --resume {path.parent}")
    try:
        value = read_json(path, error=ModelError, largest=LARGEST)
        parsed(kind, value, path, error=ModelError)
    except ModelError as error:
        raise ModelError(str(error), hint=hint) from error
    return dict(value)
