"""MaskFormer's panoptic rule on cases small enough to work out by hand."""

import numpy as np
import torch

from segcli.ops.mask_inference import Enlarge
from segcli.ops.panoptic import panoptic

SAME = Enlarge((4, 6), (4, 6), (4, 6))
THING, STUFF, VOID = 0, 1, 2  # classes of the cases: one thing, one stuff, no object
ALL = slice(None)


def logits(label: int, p: float = 0.99) -> list[float]:
    """Class logits whose softmax gives `label` the probability p and shares the rest."""
    out = [float(np.log((1 - p) / 2))] * 3
    out[label] = float(np.log(p))
    return out


def mask(rows, columns, inside: float = 8.0) -> torch.Tensor:
    out = torch.full((4, 6), -8.0)
    out[rows, columns] = inside
    return out


def run(queries, enlarge=SAME, **settings):
    classes = torch.tensor([c for c, _ in queries])
    masks = torch.stack([m for _, m in queries])
    return panoptic(classes, masks, enlarge, num_things=1, **settings)


def test_things_stay_apart_and_stuff_of_one_class_is_joined():
    found = run(
        [
            (logits(THING), mask(ALL, slice(0, 2))),
            (logits(STUFF), mask(ALL, slice(2, 3))),
            (logits(THING), mask(ALL, slice(3, 5))),
            (logits(STUFF), mask(ALL, slice(5, 6))),
        ]
    )
    assert found.ids[0].tolist() == [1, 1, 2, 3, 3, 2]
    assert found.ids.dtype == np.int32
    assert [(s.id, s.label) for s in found.segments] == [(1, THING), (2, STUFF), (3, THING)]


def test_unsure_queries_and_no_object_leave_void():
    found = run([(logits(THING, 0.7), mask(ALL, slice(0, 3))), (logits(VOID), mask(ALL, slice(3, 6)))], score=0.8)
    assert found.segments == []
    assert (found.ids == 0).all()
    sure = run([(logits(THING, 0.7), mask(ALL, slice(0, 3)))], score=0.6)
    assert len(sure.segments) == 1


def test_a_query_that_keeps_too_little_of_its_mask_is_dropped_and_its_pixels_are_void():
    covered = (logits(THING, 0.9), mask(ALL, slice(0, 4)))  # loses 3 of 4 columns to the surer query
    surer = (logits(THING, 0.99), mask(ALL, slice(1, 5)))
    found = run([covered, surer], overlap=0.8)
    assert [s.id for s in found.segments] == [1]
    assert found.ids[0].tolist() == [0, 1, 1, 1, 1, 1]  # the last column: neither mask, the larger product wins
    both = run([covered, surer], overlap=0.2)
    assert len(both.segments) == 2


def test_pixels_outside_every_mask_go_to_the_surest_or_become_void():
    """Column 3 is in neither mask."""
    queries = [(logits(THING), mask(ALL, slice(0, 3))), (logits(STUFF), mask(ALL, slice(4, 6)))]
    assert run(queries, overlap=0.5).ids[0].tolist() in ([1, 1, 1, 1, 2, 2], [1, 1, 1, 2, 2, 2])
    assert run(queries, overlap=0.5, within=True).ids[0].tolist() == [1, 1, 1, 0, 2, 2]


def test_a_query_that_wins_only_outside_its_mask_is_no_segment():
    beaten = (logits(STUFF, 0.85), mask(ALL, slice(0, 1)))  # wins where the surer one has nothing at all
    beaten[1][:, 3:] = -4.0
    surer = (logits(THING, 0.99), mask(ALL, slice(0, 3)))
    assert [s.label for s in run([beaten, surer], overlap=0.5).segments] == [STUFF, THING]
    found = run([beaten, surer], overlap=0.5, within=True)
    assert [(s.id, s.label) for s in found.segments] == [(1, THING)]
    assert found.ids[0].tolist() == [1, 1, 1, 0, 0, 0]


def test_a_dropped_stuff_query_does_not_found_a_segment():
    dropped = (logits(STUFF, 0.85), mask(ALL, slice(0, 4)))
    thing = (logits(THING, 0.99), mask(ALL, slice(1, 5)))
    other = (logits(STUFF, 0.99), mask(ALL, slice(5, 6)))
    found = run([dropped, thing, other])
    assert [(s.id, s.label) for s in found.segments] == [(1, THING), (2, STUFF)]
    assert found.ids[0].tolist() == [0, 1, 1, 1, 1, 2]


def test_the_map_is_on_the_original_pixels_whatever_the_chunk(monkeypatch):
    enlarge = Enlarge(canvas=(16, 24), content=(16, 16), original=(31, 33))
    queries = [(logits(THING), mask(ALL, slice(0, 2))), (logits(STUFF), mask(ALL, slice(2, 4)))]
    whole = run(queries, enlarge)
    assert whole.ids.shape == (31, 33)
    assert whole.ids[0, 0] == 1
    assert whole.ids[0, -1] == 2
    monkeypatch.setattr("segcli.ops.mask_inference.PIXELS", 1)
    np.testing.assert_array_equal(run(queries, enlarge).ids, whole.ids)


def test_no_query_kept():
    found = run([(logits(VOID), mask(ALL, ALL))])
    assert found.ids.shape == (4, 6)
    assert not found.ids.any()
