"""A batch without any proposal has no detections, and that is no error."""

import pytest
import torch
from batches import batch

from segcli.models import build_model

BACKBONE = {"name": "timm", "model": "test_resnet"}


@pytest.mark.parametrize(("name", "heads"), [("rcnn", ("box", "mask")), ("rcnn_lite", ("iou_box", "lite_mask"))])
def test_a_batch_without_proposals_has_no_detections(name, heads):
    settings = {"name": name, "backbone": BACKBONE, "width": 32, "heads": {head: {} for head in heads}}
    model = build_model(settings, task="instance", num_classes=2, num_things=2).eval()
    nothing = [torch.zeros(0, 4), torch.zeros(0, 4)]
    scores = [torch.zeros(0, 2), torch.zeros(0, 2)] if name == "rcnn_lite" else [torch.zeros(0), torch.zeros(0)]
    with torch.inference_mode():
        real = model.rpn.propose
        model.rpn.propose = lambda *given: (nothing, scores, real(*given)[2])
        found = model.predict(batch((1, 1)))
    assert [len(prediction.instances) for prediction in found] == [0, 0]
