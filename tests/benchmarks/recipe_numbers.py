"""What every shipped recipe computes, as one JSON: the digest of its model's seeded weights, the losses of five steps
on fixed random images, and its outputs after them. Two versions of segcli that write the same file compute the same.

    python tests/benchmarks/recipe_numbers.py before.json [RECIPE ...]

The recipe's own data is not read: images, objects and label maps are drawn. Minutes for all recipes, on one core.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from segcli.core.recipe.recipe import Recipe
from segcli.core.recipe.recipe_file import shipped
from segcli.engine.optimizer import build_optimizer, clip_gradients
from segcli.models import build_model
from segcli.types import Batch, Instances, Target

COUNTS = {"num_classes": 6, "num_things": 4, "num_keypoints": 3}
SIDE, STEPS = 128, 5


def digest(tensors: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(f"{name} {tuple(tensor.shape)} ".encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def drawn(task: str, fields: dict[str, Any]) -> Batch:
    """Two images with five and two objects, label maps, keypoints where the model asks for them."""
    targets = []
    for i, count in enumerate((5, 2)):
        masks = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
        for k in range(count):
            y, x = torch.randint(0, SIDE - 48, (2,)).tolist()
            masks[k, y : y + 16 + 6 * k, x : x + 40 - 5 * k] = True
        corners = [[m.any(0).nonzero()[[0, -1], 0], m.any(1).nonzero()[[0, -1], 0]] for m in masks]
        boxes = torch.tensor([[x[0], y[0], x[1] + 1, y[1] + 1] for x, y in corners], dtype=torch.float32)
        labels = torch.randint(0, COUNTS["num_things"], (count,))
        semantic = torch.full((SIDE, SIDE), 255)
        semantic[: SIDE // 2] = COUNTS["num_things"]
        for mask, label in zip(masks, labels, strict=True):
            semantic[mask] = label
        own = {}
        if "keypoints" in fields:
            points = torch.cat([boxes[:, None, :2] + torch.rand(count, 3, 2) * 10, torch.full((count, 3, 1), 2.0)], -1)
            own["keypoints"] = fields["keypoints"](points)
        crowd = torch.zeros(count, dtype=torch.bool)
        targets.append(
            Target(i + 1, (SIDE, SIDE), Instances(boxes, labels, masks=masks, crowd=crowd, fields=own), semantic)
        )
    images, padding = torch.randn(2, 3, SIDE, SIDE), torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    return Batch(images, padding, [(SIDE, SIDE)] * 2, [(SIDE, SIDE)] * 2, [1, 2], targets, [11, 12])


def numbers(name: str) -> dict[str, Any]:
    recipe = Recipe.load(name)
    torch.manual_seed(0)
    model: Any = build_model(dict(recipe.model), task=recipe.task, **COUNTS)
    found: dict[str, Any] = {"parameters": digest(model.state_dict()), "losses": []}
    optimizer = build_optimizer(model, recipe.train.optimizer)
    model.train()
    for step in range(STEPS):
        torch.manual_seed(100 + step)
        batch = drawn(recipe.task, model.fields)
        torch.manual_seed(200 + step)
        losses = model(batch)
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        clip_gradients(model.parameters(), recipe.train.clip)
        optimizer.step()
        found["losses"].append({key: value.item() for key, value in losses.items()})
    with torch.inference_mode():
        outputs = model.eval().network(torch.randn(1, 3, SIDE, SIDE))
        if outputs is None:  # R-CNN's network gives nothing back
            torch.manual_seed(300)
            outputs = [p.instances.boxes for p in model.predict(drawn(recipe.task, model.fields))]
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    found["outputs"] = digest({str(i): value for i, value in enumerate(outputs)})
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("recipes", nargs="*")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    found = {}
    for name in options.recipes or shipped():
        found[name] = numbers(name)
        print(name, found[name]["parameters"], found[name]["outputs"], flush=True)
        options.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
