"""Every model computes what it computed: losses, weights' effect and outputs of small ones, seeded.

The official DETR and MaskFormer with every option off, and three training steps of every family of equal_steps.py in
double precision. Numbers change only with an intended change of the models, or of torch's random weights: then run
`python tests/models/test_golden.py`, which writes golden.json anew, and say why in the commit.
"""

import json
from pathlib import Path

import pytest
import torch
from batches import RESNET, batch_of, random_batch, small_detr, small_maskformer, stripes
from equal_steps import FAMILIES, SIZES, batch, double_precision, trained

from segcli.core import plugins

FILE = Path(__file__).with_name("golden.json")

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
        return small_detr(task, backbone=RESNET, transformer={"dropout": 0.0}), random_batch()
    wide = {"dim": 256, "heads": 8, "ffn": 2048, "dropout": 0.0}
    return small_maskformer(task, backbone=RESNET, transformer=wide), batch_of(stripes(1), stripes(2, objects=1))


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


def steps_of(name) -> list[dict[str, float]]:
    """The losses of each of three steps, then numbers of the outputs after them."""
    log, model = trained(name, steps=3)
    with double_precision(), torch.inference_mode():
        given = batch(3, range(len(SIZES)))
        outputs = model.eval().network(given.images)
        if outputs is None:  # an R-CNN's gives nothing back
            found = [p.instances for p in model.predict(given)]
            outputs = [torch.cat([torch.cat([i.boxes.flatten(), i.scores]) for i in found])]
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    log.append({f"output {i}": value.double().abs().mean().item() for i, value in enumerate(outputs)})
    return [{key: float(f"{value:.8g}") for key, value in numbers.items()} for numbers in log]


@pytest.mark.parametrize("name", FAMILIES)
def test_three_steps_of_every_model_give_the_numbers_that_are_committed(name):
    expected = json.loads(FILE.read_text(encoding="utf-8"))[name]
    for step, (found, known) in enumerate(zip(steps_of(name), expected, strict=True)):
        assert found == pytest.approx(known, rel=1e-4, abs=1e-8), step


def test_every_model_has_numbers():
    """Or is made of a library's layers and held against that library's own model by other tests."""
    elsewhere = {"deeplabv3", "lraspp", "transformers"}
    assert {settings["name"] for _, settings in FAMILIES.values()} | elsewhere == set(plugins.names("model"))


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: steps_of(name) for name in FAMILIES}, indent=1) + "\n", encoding="utf-8")
