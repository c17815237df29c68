"""One row of the comparison: a finished run, a recipe that is not trained, or what a paper reports."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from segcli.core.recipe.model_title import model_title
from segcli.core.recipe.recipe import Recipe
from segcli.core.run_files import Latency, Share, Spread


class TimeToScore(TypedDict):
    """Seconds of training until a run reached the score that every run of its group reached."""

    metric: str
    score: float
    seconds: float


@dataclasses.dataclass(kw_only=True, eq=False)
class Row:
    """A row as `compare --json` prints it; None is not known. Costs are of one image, scores fractions 0..1.

    metrics: what was measured here; metrics_published: what the paper reports. ci95: metric -> [low, high]. pareto: no
    other row of the group is at least as good for less. train_*, images_seen: what the training took, all processes
    together. starts: which weights a run began with. not_compared: names of the rows that no conclusion is drawn
    against. nms: suppression's threshold -> scores. forecast: see `engine.forecast`.
    """

    name: str
    source: Literal["run", "recipe", "published"] = "recipe"
    model: str
    variant: str | None = None
    heads: list[str] | None = None
    backbone: str | None = None
    data: str
    params: float | None = None
    params_published: float | None = None
    gflops: float | None = None
    gflops_paper_rule: float | None = None
    gflops_published: float | None = None
    latency_ms: Latency | None = None
    peak_memory_mb: float | None = None
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    metrics_published: dict[str, float] = dataclasses.field(default_factory=dict)
    ci95: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    pareto: bool = False
    path: str | None = None
    task: str
    primary: str
    fingerprint: str | None = None
    split: str
    split_names: str | None = None
    images: int | None = None
    train_seconds: float | None = None
    train_cpu_seconds: float | None = None
    train_gflops: float | None = None
    train_steps: float | None = None
    images_seen: float | None = None
    starts: str | None = None
    diagnosis: list[str] = dataclasses.field(default_factory=list)
    enough_steps: int | None = None
    not_compared: list[str] = dataclasses.field(default_factory=list)
    gflops_input: list[int] | None = None
    gflops_dataset: Spread | None = None
    machine: Share | None = None
    measured_on: dict[str, object] | None = None
    nms: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    forecast: dict[str, Any] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    time_to_score: TimeToScore | None = None

    @property
    def scores(self) -> dict[str, float]:
        """What the row is ranked by: measured here, or, of a paper's row, reported."""
        return self.metrics_published if self.source == "published" else self.metrics

    @property
    def all_scores(self) -> dict[str, float]:
        """Measured scores, and what the paper of an untrained recipe reports."""
        return {**self.metrics_published, **self.metrics}

    def cost(self, key: str) -> float | None:
        """One of COSTS: a latency's median; of a paper's row the reported number where none was counted."""
        if key == "latency_ms":
            return self.latency_ms["median"] if self.latency_ms else None
        value: float | None = getattr(self, key)
        return getattr(self, f"{key}_published", None) if value is None and self.source == "published" else value

    def take_cost(self, cost: Mapping[str, Any]) -> None:
        """Fill the cells of cost.json (see `core.run_files.Cost`); runs of earlier versions lack some."""
        for key in COST_CELLS:
            setattr(self, key, cost.get(key))


COSTS = (  # less is better
    *("params", "gflops", "gflops_paper_rule", "latency_ms", "peak_memory_mb"),
    *("train_seconds", "train_cpu_seconds", "train_gflops"),
)
COST_CELLS = (*COSTS, "train_steps", "images_seen", "gflops_input", "gflops_dataset", "machine", "measured_on")


def describe(recipe: Recipe) -> Row:
    """An untrained recipe's row; measured cells are None."""
    model, heads = recipe.model, recipe.model.get("heads")
    return Row(
        name=recipe.name,
        model=model_title(model),
        variant=None if model.get("variant") is None else str(model["variant"]),  # no model was built of it yet
        heads=sorted(map(str, heads)) if isinstance(heads, dict) else None,
        backbone=backbone_name(model.get("backbone")),
        data=recipe.data.name or Path(recipe.data.root).name,
        task=recipe.task,
        primary=recipe.primary,
        split=recipe.eval.split,
        split_names=split_digest(recipe),
    )


def backbone_name(backbone: object) -> str | None:
    """{name: resnet, depth: 50} -> "resnet50", {name: swin, variant: tiny} -> "swin-tiny"; timm models: their own."""
    if not isinstance(backbone, dict) or "name" not in backbone:
        return backbone if isinstance(backbone, str) else None
    if "model" in backbone:
        return str(backbone["model"])
    return f"{backbone['name']}{backbone.get('depth', '')}" + (
        f"-{backbone['variant']}" if "variant" in backbone else ""
    )


def split_digest(recipe: Recipe) -> str | None:
    """Tells two splits of the same data apart: a hash of the split file, or its name."""
    if recipe.data.split_file is None:
        return None
    file = recipe.resolve(recipe.data.split_file)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else recipe.data.split_file
