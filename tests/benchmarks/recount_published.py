"""Counts parameters and GFLOPs of every recipe that `compare --published` lists; prints the table for published.py.

    python tests/benchmarks/recount_published.py

Needs no data: COCO's 80 things and 53 stuff classes and ADE20K's 150 are declared, nothing is computed (meta device).
"""

import sys
from typing import Any

from segcli.compare.published import COUNTED, TABLE, input_of, load
from segcli.compare.untrained import COCO
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.engine import cost
from segcli.engine.run_folder import build

ADE20K = DatasetInfo("ade20k", tuple(Category(f"class {i}", i, thing=i < 100) for i in range(150)), {})


def recount(name: str) -> tuple[int, float, float | None]:
    """(parameters, GFLOPs, GFLOPs by the paper's rule) of one shipped recipe."""
    recipe = load(name)
    backbone = {k: v for k, v in recipe.model["backbone"].items() if k != "weights"}
    recipe = recipe.model_copy(update={"model": {**recipe.model, "backbone": backbone}})
    model: Any = build(recipe, ADE20K if name.startswith("ade20k/") else COCO)
    rule = round(model.paper_gflops(), 2) if hasattr(model, "paper_gflops") else None
    return cost.parameters(model)["params"], round(cost.flops(model, input_of(name))["gflops"], 2), rule


def main() -> None:
    for name in sys.argv[1:] or dict.fromkeys(entry[2] for entry in TABLE):
        params, gflops, rule = recount(name)
        print(f'    "{name}": ({params:_}, {gflops}, {rule}),', flush=True)
        if name in COUNTED and COUNTED[name][:2] != (params, gflops):
            print(f"{name}: published.py has {COUNTED[name]}", file=sys.stderr)


if __name__ == "__main__":
    main()
