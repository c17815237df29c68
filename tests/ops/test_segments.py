"""What a mask-classification model is told to find, for each of its tasks."""

import pytest
import torch

from segcli.core.errors import DataError
from segcli.ops.segments import segments
from segcli.types import IGNORE, Instances, Target


def target(semantic=True) -> Target:
    """4 x 6 pixels. Class 0 is a thing, 1 and 2 are stuff: a thing left, a crowd right, stuff 2 below, some IGNORE."""
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, :2, :2] = True
    masks[1, :2, 4:] = True
    labels = torch.full((4, 6), IGNORE)
    labels[masks[0]] = 0
    labels[3] = 2
    things = Instances(
        torch.zeros(3, 4), torch.tensor([0, 0, 0]), crowd=torch.tensor([False, True, False]), masks=masks
    )
    return Target(5, (4, 6), things, labels if semantic else None)


def find(task, target_, canvas=(4, 6)):
    labels, masks = segments(target_, task, num_things=1, canvas=canvas)
    return labels.tolist(), masks.flatten(1).sum(1).tolist(), masks


def test_instance_finds_objects_without_crowds_and_without_invisible_ones():
    assert find("instance", target())[:2] == ([0], [4])


def test_semantic_finds_one_mask_a_class_and_never_the_ignored():
    assert find("semantic", target())[:2] == ([0, 2], [4, 6])


def test_panoptic_finds_things_and_stuff():
    assert find("panoptic", target())[:2] == ([0, 2], [4, 6])


def test_masks_are_padded_to_the_canvas():
    masks = find("panoptic", target(), canvas=(8, 8))[2]
    assert masks.shape == (2, 8, 8)
    assert not masks[:, 4:].any()
    assert not masks[:, :, 6:].any()


def test_nothing_labelled():
    blank = Target(1, (4, 6), Instances.empty(), torch.full((4, 6), IGNORE))
    for task in ("semantic", "instance", "panoptic"):
        labels, _, masks = find(task, blank, canvas=(8, 8))
        assert labels == []
        assert masks.shape == (0, 8, 8)


def test_missing_labels_are_an_error_that_names_the_image():
    with pytest.raises(DataError, match="image 5 has no semantic labels"):
        find("panoptic", target(semantic=False))
    boxes = Target(7, (4, 6), Instances(torch.zeros(1, 4), torch.tensor([0])))
    with pytest.raises(DataError, match="image 7: its objects have no masks"):
        find("instance", boxes)
