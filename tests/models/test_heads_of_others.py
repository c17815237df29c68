"""Heads of other packages that are none, or whose losses would hide those of another head, are refused by name."""

import pytest
import torch
from batches import batch
from torch import nn

from segcli.core.errors import UsageError
from segcli.models import build_model
from segcli.models.interface import RoIHead
from segcli.models.rcnn import rcnn

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
