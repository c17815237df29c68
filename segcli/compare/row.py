"""One row of the comparison: the cells that a recipe decides, and those of cost.json."""

import hashlib
from pathlib import Path
from typing import Any

from segcli.core.recipe.recipe import Recipe

Row = dict[str, Any]
# what a training took, all processes together; runs of earlier versions have the first and the last
WORK = ("train_seconds", "train_cpu_seconds", "train_gflops", "train_steps", "images_seen")


def describe(recipe: Recipe) -> Row:
    """Row defaults from the recipe; measured cells are None."""
    model = recipe.model
    return {
        "name": recipe.name,
        "source": "recipe",
        "model": model["name"],
        "variant": None if model.get("variant") is None else str(model["variant"]),  # no model was built of it yet
        "heads": sorted(map(str, model["heads"])) if isinstance(model.get("heads"), dict) else None,
        "backbone": backbone_name(model.get("backbone")),
        "data": recipe.data.name or Path(recipe.data.root).name,
        "params": None,
        "params_published": None,
        "gflops": None,
        "gflops_paper_rule": None,
        "gflops_published": None,
        "latency_ms": None,
        "peak_memory_mb": None,
        "metrics": {},
        "metrics_published": {},
        "ci95": {},
        "pareto": False,
        "path": None,
        "task": recipe.task,
        "primary": recipe.primary,
        "fingerprint": None,
        "split": recipe.eval.split,
        "split_names": split_digest(recipe),
        "images": None,
        **dict.fromkeys(WORK),
        "diagnosis": [],
        "not_compared": [],
        "gflops_input": None,
        "gflops_dataset": None,
        "machine": None,
        "measured_on": None,
        "nms": {},
        "forecast": None,
        "notes": [],
    }


def cost_cells(cost: dict[str, Any]) -> Row:
    """What a row takes from cost.json. Raises KeyError where a key is missing."""
    wanted = ("params", "gflops", "gflops_paper_rule", "latency_ms", "peak_memory_mb", "gflops_input")
    added = ("gflops_dataset", "machine", "measured_on")  # runs of earlier versions lack some
    return {**{key: cost[key] for key in wanted}, **{key: cost.get(key) for key in added}}


def backbone_name(backbone: Any) -> str | None:
    """{name: resnet, depth: 50} -> "resnet50", {name: swin, variant: tiny} -> "swin-tiny"; timm models: their own."""
    if not isinstance(backbone, dict) or "name" not in backbone:
        return backbone if isinstance(backbone, str) else None
    if "model" in backbone:
        return str(backbone["model"])
    return f"{backbone['name']}{backbone.get('depth', '')}" + (
        f"-{backbone['variant']}" if "variant" in backbone else ""
    )


def split_digest(recipe: Recipe) -> str | None:
    """What tells one division into splits from another on the same data: a hash of the split file, or its name."""
    if recipe.data.split_file is None:
        return None
    file = recipe.resolve(recipe.data.split_file)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else recipe.data.split_file
