"""What a model sees of an image is what its family's arithmetic gives, to the bit."""

import numpy as np
import pytest
import torch

from segcli.core.recipe.recipe import Recipe
from segcli.models import build_model
from segcli.ops.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from segcli.ops.resize_labels import resize_masks


@pytest.mark.parametrize("turn", [lambda x: x, lambda x: x[:, ::-1], lambda x: x.transpose(1, 0, 2), lambda x: x[:1]])
def test_normalised_images(turn):
    pixels = turn(np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8))
    found = Preprocess(keep_size=True).image(pixels)
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    wanted = (torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255 - mean) / std
    assert torch.equal(found, wanted)
    assert found.is_contiguous()


@pytest.mark.parametrize(
    ("image", "rule", "expected"),
    [
        ((480, 640), (800, 1333), (800, 1067)),  # 1066.67; DETR's floor has 1066
        ((640, 480), (800, 1333), (1067, 800)),
        ((427, 640), (800, 1333), (800, 1199)),
        ((500, 1500), (800, 1333), (444, 1333)),  # 444.33 x 1333; DETR's has 444 x 1332
        ((683, 1024), (512, 2048), (512, 768)),  # 767.63
        ((100, 900), (512, 2048), (228, 2048)),
        ((333, 500), (640, 2560), (640, 961)),  # 960.96
        ((256, 256), (512, 2048), (512, 512)),
    ],
)
def test_maskformers_sizes_are_rounded_as_detectron2_rounds_them(image, rule, expected):
    assert Preprocess(*rule, "detectron2").output_size(*image) == expected


def test_maskformers_own_padding():
    """As the official configurations have it: SIZE_DIVISIBILITY 32 for ADE20K, 0 for COCO and per-pixel baselines."""
    resnet = {"backbone": {"name": "resnet", "depth": 18}}
    with torch.device("meta"):
        made = lambda task, **model: build_model({**resnet, **model}, task=task, num_classes=4, num_things=2).preprocess
        assert made("semantic", name="maskformer").divisor == 32
        assert made("panoptic", name="maskformer").divisor == 1
        assert made("panoptic", name="maskformer", divisor=32).canvas([(641, 700)]) == (672, 704)
        for variant in ("per_pixel", "per_pixel_plus"):
            assert made("semantic", name=variant).canvas([(513, 700)]) == (513, 700)
        for name in ("maskformer", "per_pixel"):
            assert made("semantic", name=name).output_size(683, 1024) == (512, 768)
    ade = Recipe.load("ade20k/maskformer_r101_panoptic")
    assert ade.model["divisor"] == 32


def test_targets_follow_their_family():
    """The official models read masks as their references do, for their weights were learned so; others exactly."""
    resnet = {"backbone": {"name": "resnet", "depth": 18}}
    heads = {"heads": {"box": {}, "mask": {}}}
    ways = {
        ("instance", "rcnn"): ("nearest", heads),
        ("instance", "detr"): ("nearest", {}),
        ("panoptic", "maskformer"): ("centre", {}),
        ("semantic", "maskformer"): ("nearest", {}),
        ("semantic", "per_pixel"): ("nearest", {}),
    }
    with torch.device("meta"):
        for (task, name), (way, settings) in ways.items():
            model = build_model({"name": name, **resnet, **settings}, task=task, num_classes=4, num_things=2)
            assert model.preprocess.targets == way
            assert model.preprocess.with_size((480, 800)).targets == way
            assert model.preprocess.with_size(256).targets == ("nearest" if name == "rcnn" else "area")
        lite = {"name": "rcnn_lite", **resnet, "heads": {"iou_box": {}, "lite_mask": {}}}
        model = build_model(lite, task="instance", num_classes=4, num_things=2)
        assert model.preprocess.with_size((200, 300)).targets == "area"


@pytest.mark.parametrize("way", ["nearest", "centre", "area"])
def test_where_each_way_reads_a_mask(way):
    """A square in the middle stays in the middle, but where pixels are read at their corners."""
    shape = torch.zeros(1, 20, 20, dtype=torch.bool)
    shape[0, 6:14, 6:14] = True
    for side in (32, 13):
        found = resize_masks(shape, (side, side), way)[0].nonzero().float().mean(0) + 0.5
        shift = float((found - side / 2).abs().max())
        assert (shift > 0.4) == (way == "nearest"), (side, shift)


def test_a_thin_object_survives_shrinking():
    masks = torch.zeros(1, 40, 40, dtype=torch.bool)
    masks[0, :, 18] = True  # a quarter of a pixel, at the centre of one column
    assert resize_masks(masks, (10, 10), "area")[0, :, 4].all()
    assert resize_masks(masks[:0], (10, 10), "area").shape == (0, 10, 10)
