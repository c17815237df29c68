"""Counts parameters and GFLOPs of every recipe that `compare --published` lists; prints them for published.yaml.

    python tests/benchmarks/recount_published.py

Needs no data: COCO's 80 things and 53 stuff classes and ADE20K's 150 are declared, nothing is computed (meta device).
"""

import sys
from typing import Any

from segcli.compare.published import Counted, input_of, load, table
from segcli.compare.untrained import COCO
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.engine import cost
from segcli.engine.opening import build

ADE20K = DatasetInfo("ade20k", tuple(Category(f"class {i}", i, thing=i < 100) for i in range(150)), {})


def recount(name: str) -> Counted:
    """The numbers of one shipped recipe."""
    recipe = load(name)
    backbone = {k: v for k, v in recipe.model["backbone"].items() if k != "weights"}
    recipe = recipe.model_copy(update={"model": {**recipe.model, "backbone": backbone}})
    model: Any = build(recipe, ADE20K if name.startswith("ade20k/") else COCO)
    rule = round(model.paper_gflops(), 2) if hasattr(model, "paper_gflops") else None
    gflops = round(cost.flops(model, input_of(name))["gflops"], 2)
    return Counted(params=cost.parameters(model)["params"], gflops=gflops, gflops_paper_rule=rule)


def main() -> None:
    stored = table().counted
    for name in sys.argv[1:] or stored:
        counted = recount(name)
        cells = ", ".join(f"{key}: {'null' if value is None else value}" for key, value in counted)
        print(f"  {name}: {{{cells}}}", flush=True)
        if name in stored and stored[name] != counted:
            print(f"{name}: published.yaml has {stored[name]}", file=sys.stderr)


if __name__ == "__main__":
    main()
