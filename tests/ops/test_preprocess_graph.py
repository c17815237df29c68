"""Preprocessing inside a graph makes of an image what `Preprocess` makes of it."""

import cv2
import numpy as np
import pytest
import torch

from segcli.ops.preprocess import Preprocess
from segcli.ops.preprocess_graph import fixed_canvas, frame

RULES = {
    "opencv": Preprocess(None, 96, "opencv", square=True),
    "opencv, two sides": Preprocess(64, 96, "opencv", square=True),
    "pil": Preprocess(60, 97, "pil", square=True),
    "pil, one side": Preprocess(None, 96, "pil", square=True),
    "detectron2": Preprocess(60, 97, "detectron2", square=True),
    "torchvision": Preprocess(60, 97, "torchvision", square=True),
}
SIZES = [(120, 160), (192, 128), (96, 96), (61, 250), (33, 47), (64, 64), (107, 161)]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_makes_the_same_input(rule, size):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (9, 13, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    expected = rule.image(image)
    images, padding = rule.pad([expected])
    found = frame(rule, torch.from_numpy(image))
    assert [int(side) for side in found.content] == list(expected.shape[1:])
    assert torch.equal(found.padding, padding)
    levels = (found.image - images).abs() * torch.tensor(rule.std)[:, None, None] * 255
    assert float(levels.max()) < 1.02
    whole_numbers = rule.method == "opencv" and expected[0].numel() > image[..., 0].size  # where it enlarges
    assert float((levels > 0.02).float().mean()) < (2e-4 if whole_numbers else 0.01)  # halves may fall to either side


def test_content_never_exceeds_the_canvas():
    """DETR rounds the shorter side first: of a panorama the longer one may then be longer than `longest`."""
    rule = Preprocess(480, 640, "pil", square=True)
    assert rule.output_size(138, 500) == (177, 641)
    found = frame(rule, torch.zeros(138, 500, 3, dtype=torch.uint8))
    assert [int(side) for side in found.content] == [177, 640]
    assert fixed_canvas(rule) == (640, 640)
    assert int((~found.padding).sum()) == 177 * 640
