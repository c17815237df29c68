"""Semantic maps and instances from queries, against the rules written out plainly on whole tensors."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcli.ops import mask_inference
from segcli.ops.mask_inference import Enlarge, instances, semantic

UNPADDED = Enlarge((40, 56), (40, 56), (61, 83))
PADDED = Enlarge((64, 64), (40, 56), (61, 83))


def outputs(queries=7, classes=5, size=(10, 14)):
    torch.manual_seed(0)
    return 2 * torch.randn(queries, classes + 1), 3 * torch.randn(queries, *size)


def resize(maps, size):
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def official(maps, enlarge):
    """To the network's input, cut the padding off, to the original."""
    return resize(resize(maps, enlarge.canvas)[:, : enlarge.content[0], : enlarge.content[1]], enlarge.original)


@pytest.mark.parametrize("enlarge", [UNPADDED, PADDED])
def test_semantic_follows_the_official_order(monkeypatch, enlarge):
    classes, masks = outputs()
    content = resize(masks, enlarge.canvas)[:, : enlarge.content[0], : enlarge.content[1]]
    scores = torch.einsum("qc,qhw->chw", classes.softmax(-1)[:, :-1], content.sigmoid())
    expected = resize(scores, enlarge.original).argmax(0).numpy()
    found = semantic(classes, masks, enlarge)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    monkeypatch.setattr(mask_inference, "PIXELS", 1)  # one class at a time
    np.testing.assert_array_equal(semantic(classes, masks, enlarge), expected)


def test_direct_enlarging_leaves_the_padding_out():
    ramp = torch.arange(16.0).repeat(16, 1)[None]  # value = column of stride 4 on a 64-pixel canvas
    straight = Enlarge((64, 64), (64, 42), (64, 42), direct=True)(ramp)
    columns = (torch.arange(42) + 0.5) / 4 - 0.5
    torch.testing.assert_close(straight[0, 0], columns.clamp(min=0))


def test_more_classes_than_a_byte_holds():
    found = semantic(torch.eye(300, 301) * 50, torch.full((300, 4, 4), -5.0), UNPADDED)
    assert found.dtype == np.int32


def test_instances_are_the_best_pairs_scored_by_class_and_mask_quality():
    classes, masks = outputs()
    found = instances(classes, masks, PADDED, classes=5, limit=9)
    p = classes.softmax(-1)[:, :5]
    best, index = p.flatten().topk(9)
    logits = official(masks, PADDED)
    expected = []
    for value, i in zip(best, index, strict=True):
        one = logits[i // 5]
        expected.append((float(value * one.sigmoid()[one > 0].mean()), int(i % 5), (one > 0).numpy()))
    expected.sort(key=lambda e: -e[0])
    assert len(found) == 9
    assert found.scores.tolist() == pytest.approx([e[0] for e in expected], rel=1e-5)
    assert found.labels.tolist() == [e[1] for e in expected]
    for i, (_, _, mask) in enumerate(expected):
        np.testing.assert_array_equal(found.mask(i), mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert found.boxes[i].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_instances_leave_out_empty_masks_and_classes_beyond_the_first():
    classes = torch.tensor([[9.0, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]])  # query q is class q; the last is no object
    masks = torch.full((3, 10, 14), 5.0)
    masks[1] = -5  # an empty mask
    found = instances(classes, masks, UNPADDED, classes=2, limit=100)
    assert set(found.labels.tolist()) == {0, 1}
    assert found.labels[0] == 0
    assert len(found) == 4  # queries 0 and 2 with both classes
    assert len(instances(classes, masks[[1, 1, 1]], UNPADDED, classes=2, limit=100)) == 0
