"""Heads of other packages that are none, or whose losses would hide those of another head, are refused by name."""

import pytest
import torch
from batches import batch
from torch import nn

from segcli.core.errors import UsageError
from segcli.models import build_model
from segcli.models.interface import RoIHead
from segcli.models.rcnn import rcnn
from segcli.models.rcnn.heads.lite_mask import LiteMaskHead
from segcli.models.rcnn.roi_heads import refuse_unfit

SETTINGS = {"name": "rcnn_lite", "backbone": {"name": "timm", "model": "test_resnet"}, "width": 32}


class Clash(RoIHead):
    def loss(self, features, samples):
        return {"loss_box": torch.zeros(())}


def model_with(monkeypatch, kind):
    known = rcnn.find
    plugin = type("Plugin", (), {"build": staticmethod(lambda: kind())})
    monkeypatch.setattr(rcnn, "find", lambda what, name, *where: plugin if name == "own" else known(what, name, *where))
    settings = SETTINGS | {"heads": {"iou_box": {}, "own": {}}}
    return build_model(settings, task="detection", num_classes=2, num_things=2)


@pytest.mark.parametrize("kind", [RoIHead, nn.Identity])
def test_a_head_without_a_loss_is_refused(monkeypatch, kind):
    with pytest.raises(UsageError, match=rf"model\.heads\.own: a {kind.__name__} is no RoIHead that defines loss"):
        model_with(monkeypatch, kind)


def test_a_loss_of_another_head_is_not_hidden(monkeypatch):
    with pytest.raises(UsageError, match=r"model\.heads\.own: another head has the loss 'loss_box' already"):
        model_with(monkeypatch, Clash)(batch((1, 1)))


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (
            {"masks": torch.zeros(2, 40, 55, dtype=torch.bool)},
            "gives masks of 40 × 55 pixels, and the image has 40 × 60",
        ),
        (
            {"masks": [{"size": [60, 40], "counts": b""}] * 2},
            "gives masks of 60 × 40 pixels, and the image has 40 × 60",
        ),
        ({"masks": torch.zeros(3, 40, 60, dtype=torch.bool)}, "gives 3 masks for 2 detections"),
        ({"scores": torch.zeros(1)}, "gives 1 scores for 2 detections"),
        ({"fields": {"angle": torch.zeros(0)}}, "gives 0 angle for 2 detections"),
        ({"boxes": torch.zeros(2, 4)}, "gives 'boxes'"),
    ],
)
def test_answers_that_do_not_fit_the_image_are_refused_by_the_heads_name(own, says):
    with pytest.raises(UsageError, match=rf"model\.heads\.own: finish {says}"):
        refuse_unfit("own", own, 2, (40, 60))
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    refuse_unfit("own", {"masks": masks, "scores": torch.zeros(2), "fields": {"angle": torch.zeros(2)}}, 2, (40, 60))


def test_a_head_that_can_not_predict_ends_before_the_first_step(segcli, tiny_copy, tmp_path, monkeypatch):
    def nothing(self, features, detections):
        pass

    sets = ("--set", "train.steps=2", "--set", "init=null", "--set", "hardware.workers=0")
    small = ("--set", "model.width=32", "--set", "data.size=64", "--set", "model.backbone={name: resnet, depth: 18}")
    monkeypatch.setattr(LiteMaskHead, "predict", nothing)
    done = segcli("train", "custom/mask_rcnn", "--data", tiny_copy, *sets, *small, "-q")
    assert (done.code, done.error) == (1, "error: KeyError: 'masks'")
    [run] = (tmp_path / "runs").iterdir()
    assert not [*run.glob("checkpoints/*")]
