"""`segcli visualize explain --split`: where queries look over all images of a split."""

import shutil

import numpy as np
import pytest
import torch
from batches import LAYERS, TRUNK

from segcli.core.dataset_info import DatasetInfo
from segcli.core.recipe.recipe import Recipe
from segcli.data.dataset import Dataset
from segcli.engine.opening import Opened, build
from segcli.explain.explain import available, look, views_named
from segcli.explain.over_split import over_split

DETR = {"name": "detr", "backbone": TRUNK, "queries": 5, "transformer": {"dim": 32, "heads": 4, "ffn": 32, **LAYERS}}


@pytest.fixture
def opened(tiny_dataset):
    data = {"root": str(tiny_dataset), "size": 64}
    recipe = Recipe.parse({"name": "d", "task": "detection", "data": data, "model": DETR, "train": {"steps": 1}}, "t")
    info = DatasetInfo.load(tiny_dataset)
    torch.manual_seed(0)
    return Opened(build(recipe, info).eval(), recipe, info, None)


def test_boxes_are_those_of_each_image_as_shares_of_it(opened, tiny_dataset):
    scene = over_split(opened, "train", 0.0, progress=False)
    boxes, dataset = scene.inside["split_boxes"], Dataset(tiny_dataset, "train", task="detection")
    assert boxes.shape == (4, 5, 4)
    for i in range(4):
        one = look(opened, dataset.image(i), None, 0.5)
        height, width = one.size
        expected = one.inside["boxes"][0] / torch.tensor([width, height, width, height])
        torch.testing.assert_close(boxes[i], expected)
    [(name, view)] = available(scene, views_named(()), named=False, split="train").items()
    shown = view.shown(scene)
    assert (name, len(shown.pictures)) == ("query_places", 5)
    assert all("found 4 times" in picture.caption for picture in shown.pictures)
    assert "4 images; 0 of 5 queries never find anything" in shown.facts[0]
    dots = (np.abs(shown.pictures[0].pixels.astype(int) - 32) > 60).any(2).sum()
    assert dots > 4 * 10  # a dot an image, unless they lie on one another


def test_what_it_does_not_take_is_said(segcli, trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    asked = ["visualize", "explain", "runs/tiny run"]
    image = ["--image", "data/tiny/images/five.png"]
    for arguments, code, text in (
        ([], 2, "one image, or a split"),
        ([*image, "--split", "val"], 2, "one image, or a split"),
        (["--split", "val"], 2, "no queries"),
        (["--split", "vall"], 3, "vall"),
        ([*image, "--what", "query_places"], 2, "of a whole split"),
        (["--split", "val", "--over-time"], 2, "--over-time"),
    ):
        done = segcli(*asked, *arguments)
        assert (done.code, text in done.error) == (code, True), (arguments, done.err)
