"""The official DETR and MaskFormer stay what they are, to the digit, whatever options for little data are added.

Tiny ones with every option off, seeded. Numbers change only with an intended change of the models, or of torch's random
weights: print `numbers(…)` then, and say why in the commit.
"""

import pytest
import torch
from batches import batch_of, random_batch, small_detr, small_maskformer, stripes

GOLDEN = {
    "detr detection": {
        "class": 1.3153,
        "l1": 4.9833,
        "giou": 2.283,
        "class_aux": 1.5321,
        "l1_aux": 4.9063,
        "giou_aux": 2.2304,
        "output 0": -0.36371,
        "output 0 size": 0.36371,
        "output 1": 0.52346,
        "output 1 size": 0.52346,
    },
    "detr panoptic": {
        "class": 1.7618,
        "l1": 4.2522,
        "giou": 2.1059,
        "class_aux": 1.9695,
        "l1_aux": 4.3298,
        "giou_aux": 2.034,
        "mask": 0.35933,
        "dice": 0.80752,
        "output 0": -0.26464,
        "output 0 size": 0.28332,
        "output 1": 0.48059,
        "output 1 size": 0.48059,
        "output 2": 0.722,
        "output 2 size": 0.76795,
    },
    "maskformer semantic": {
        "class": 1.5283,
        "mask": 1.8351,
        "dice": 0.71885,
        "class_aux": 1.5262,
        "mask_aux": 2.12,
        "dice_aux": 0.71577,
        "output 0": 0.32727,
        "output 0 size": 0.35327,
        "output 1": -0.11169,
        "output 1 size": 0.41111,
    },
    "maskformer instance": {
        "class": 1.0986,
        "mask": 0.70308,
        "dice": 0.92119,
        "class_aux": 1.0987,
        "mask_aux": 3.2884,
        "dice_aux": 0.91311,
        "output 0": 0.25368,
        "output 0 size": 0.3136,
        "output 1": -0.83541,
        "output 1 size": 0.85727,
    },
}


def made(kind):
    """The model and its batch."""
    name, task = kind.split()
    if name == "detr":
        return small_detr(task, transformer={"dropout": 0.0}), random_batch()
    return small_maskformer(task, transformer={"dropout": 0.0}), batch_of(stripes(1), stripes(2, objects=1))


def numbers(kind) -> dict[str, float]:
    """Every loss in training, and of each output the mean and the mean size in evaluation."""
    model, given = made(kind)
    found = {name: value.item() for name, value in model.train()(given).items()}
    with torch.inference_mode():
        outputs = model.eval().network(given.images)
    for i, output in enumerate(outputs):
        found |= {f"output {i}": output.mean().item(), f"output {i} size": output.abs().mean().item()}
    return {name: float(f"{value:.5g}") for name, value in found.items()}


@pytest.mark.parametrize("kind", GOLDEN)
def test_with_all_options_off_nothing_changes(kind):
    assert numbers(kind) == pytest.approx(GOLDEN[kind], rel=1e-4, abs=1e-6)
