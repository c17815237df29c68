"""Make the weights that come with the package of a finished run of recipes/pretrain/:

    python tests/benchmarks/pack_scenes.py runs/pretrain-mask_rcnn

The averaged last weights in half precision, without the trunk where it stayed as ImageNet left it, as
segcli/weights/scenes_weights/FAMILY.safetensors; the metadata say what made them. Raises ModelError for weights that
half precision can't hold.
"""

import argparse
import json
from pathlib import Path

import torch

from segcli.core.errors import ModelError
from segcli.engine.checkpoint import initialise, save_weights
from segcli.engine.opening import open_model
from segcli.models.interface import Backbone
from segcli.weights import scenes


def pack(run: Path) -> Path:
    opened = open_model(run, device="cpu")
    target = scenes.file_for(opened.recipe.model)
    trunks = [f"{name}." for name, module in opened.model.named_modules() if isinstance(module, Backbone)]
    state = {key: value.clone() for key, value in opened.model.state_dict().items()}
    initialise(opened.model)  # as ImageNet left the trunk
    before = opened.model.state_dict()
    trunk = [key for key in state if key.startswith(tuple(trunks))]
    frozen = all(torch.equal(state[key], before[key]) for key in trunk)
    small = {
        key: value.half() if value.is_floating_point() else value
        for key, value in state.items()
        if not (frozen and key in trunk)
    }
    if lost := [key for key, value in small.items() if not value.isfinite().all()]:
        raise ModelError(f"{run}: too large for half precision: {', '.join(lost)}")
    cost = json.loads((run / "cost.json").read_text(encoding="utf-8"))
    started = "" if opened.recipe.init is None else f", begun with {Path(opened.recipe.init).name}"
    about = {"data": f"segcli scenes, {opened.recipe.data.drawn} images", "steps": f"{cost['train_steps']}{started}"}
    target.parent.mkdir(exist_ok=True)
    save_weights(target, small, {**about, "recipe": opened.recipe.name, "licence": scenes.LICENCE})
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    for folder in parser.parse_args().runs:
        file = pack(folder)
        print(file, f"{file.stat().st_size / 1e6:.2f} MB")
