"""DETR's reading of queries: detections, masks and the panoptic rule, on cases worked out by hand."""

import numpy as np
import pytest
import torch

from segcli.ops.detr_inference import confident, detections, panoptic, to_rles
from segcli.ops.mask_inference import Enlarge
from segcli.types import Instances

SQUARE = Enlarge((8, 8), (8, 8), (8, 8))  # nothing is enlarged


def logits_of(owner: np.ndarray, queries: int) -> torch.Tensor:
    """Mask logits [K,h,w] whose largest is the owner's."""
    return torch.from_numpy(np.stack([np.where(owner == k, 5.0, -5.0 - k) for k in range(queries)])).float()


def read(owner: np.ndarray, labels: list[int], enlarge: Enlarge = SQUARE, scores: list[float] | None = None):
    scores = scores or [0.9] * len(labels)
    masks = logits_of(owner, len(labels))
    return panoptic(masks, torch.tensor(scores), torch.tensor(labels), enlarge, num_things=2)


def test_every_pixel_goes_to_the_query_with_the_largest_logit():
    owner = np.repeat([[0, 0, 0, 1, 1, 2, 2, 2]], 8, 0)
    found = read(owner, [0, 0, 3])
    assert (found.ids == owner + 1).all()
    assert [(s.id, s.label) for s in found.segments] == [(1, 0), (2, 0), (3, 3)]


def official(mask_logits, scores, labels, num_things=2, smallest=4):
    """The official rule, step by step, at the masks' own size. -> ids by query, and the queries that are left.

    A pass with one id a stuff class; then passes that drop what has few pixels, and merge nothing any more.
    """
    index = list(range(len(labels)))
    first = {label: k for k, label in reversed(list(enumerate(labels)))}
    merge = True
    while index:
        owner = mask_logits[index].flatten(1).T.softmax(-1).argmax(-1).view(mask_logits.shape[1:])
        ids = torch.tensor(index)[owner]
        if merge:
            ids = ids.apply_(lambda k: first[labels[k]] if labels[k] >= num_things else k)
        merge = False
        small = [k for k in index if int((ids == k).sum()) <= smallest]
        if not small:
            return ids.numpy(), index
        index = [k for k in index if k not in small]
    return np.zeros(mask_logits.shape[1:], int), []


@pytest.mark.parametrize("seed", range(20))
def test_panoptic_maps_are_the_official_rules(seed):
    """Many queries of few classes: duplicates of stuff on nearly every map, with and without small segments."""
    generator = torch.Generator().manual_seed(seed)
    count = 3 + seed % 8
    masks = torch.nn.functional.interpolate(torch.randn(1, count, 4, 4, generator=generator), size=(8, 8))[0]
    if seed % 2:
        masks = masks + torch.randn(count, 8, 8, generator=generator)
    labels = torch.randint(4, (count,), generator=generator)
    scores = 0.85 + 0.1 * torch.rand(count, generator=generator)
    ids, left = official(masks, scores, labels.tolist())
    found = panoptic(masks, scores, labels, SQUARE, num_things=2)
    place = {k: n for n, k in enumerate(left, start=1)}
    assert (found.ids == np.vectorize(place.get)(ids)).all()
    assert [(s.label, s.score) for s in found.segments] == [(int(labels[k]), scores[k].item()) for k in left]


def test_of_equal_stuff_the_first_stays_and_equal_things_all_do():
    owner = np.repeat([[0, 0, 0, 1, 1, 2, 2, 3]], 8, 0)
    found = read(owner, [3, 1, 3, 1], scores=[0.87, 0.9, 0.95, 0.9])
    assert [(s.label, round(s.score, 2)) for s in found.segments] == [(3, 0.87), (1, 0.9), (1, 0.9)]
    # query 2, the second of its class, is gone: its columns go to the query with the next largest logit
    assert (found.ids == np.repeat([[1, 1, 1, 2, 2, 1, 1, 3]], 8, 0)).all()


def test_pixels_of_a_dropped_stuff_query_go_to_the_next_whatever_its_class():
    masks = torch.full((3, 8, 8), -5.0)
    masks[0, :, :4] = 5.0  # stuff
    masks[1, :, 4:] = 5.0  # the same class again
    masks[2, :, 4:] = 1.0  # a thing below it,
    masks[2, :2] = 9.0  # and above both
    found = panoptic(masks, torch.tensor([0.9, 0.95, 0.9]), torch.tensor([3, 3, 0]), SQUARE, num_things=2)
    assert [(s.label, round(s.score, 2)) for s in found.segments] == [(3, 0.9), (0, 0.9)]
    assert (found.ids[:2] == 2).all()
    assert (found.ids[2:] == np.repeat([[1, 1, 1, 1, 2, 2, 2, 2]], 6, 0)).all()


def test_segments_of_four_pixels_go_to_the_others_and_of_five_stay():
    owner = np.zeros((8, 8), int)
    owner[0, :4] = 1
    owner[7, :5] = 2
    found = read(owner, [0, 1, 1])
    assert [s.label for s in found.segments] == [0, 1]
    assert (found.ids[0] == 1).all()
    assert (found.ids == 2).sum() == 5


def test_pieces_of_stuff_count_together_before_small_ones_are_dropped():
    """Six pixels of the class in all: the first pass keeps its first query, the next one finds three and drops it."""
    owner = np.zeros((8, 8), int)
    owner[0, :3] = 1
    owner[7, :3] = 2
    found = read(owner, [0, 3, 3])
    assert [(s.label, int((found.ids == s.id).sum())) for s in found.segments] == [(0, 64)]


def test_a_query_that_wins_no_pixel_leaves_no_segment():
    found = read(np.zeros((8, 8), int), [0, 1])
    assert [s.label for s in found.segments] == [0]


def test_no_confident_query_leaves_a_void_map():
    found = panoptic(torch.zeros(0, 4, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), SQUARE, num_things=2)
    assert found.ids.shape == (8, 8)
    assert not found.ids.any()
    assert found.segments == []


def test_padding_is_cut_off_before_the_map_is_enlarged():
    # content: the left half of the canvas; the right half belongs to another query and must not appear
    owner = np.repeat([[0, 0, 1, 1, 2, 2, 2, 2]], 8, 0)
    found = read(owner, [0, 1, 1], Enlarge((8, 8), (8, 4), (16, 8)))
    assert found.ids.shape == (16, 8)
    assert (found.ids == np.repeat([[1, 1, 1, 1, 2, 2, 2, 2]], 16, 0)).all()


@pytest.mark.parametrize("size", [(3, 5), (16, 24), (11, 7)])
def test_labels_are_carried_to_the_original_by_pixel_centres(size):
    rng = np.random.default_rng(0)
    owner = rng.integers(2, size=(8, 8))
    found = read(owner, [0, 1], Enlarge((8, 8), (8, 8), size))
    rows = [int((y + 0.5) * 8 / size[0]) for y in range(size[0])]
    columns = [int((x + 0.5) * 8 / size[1]) for x in range(size[1])]
    label_of = {s.id: s.label for s in found.segments}
    assert [[label_of[i] for i in row] for row in found.ids.tolist()] == owner[rows][:, columns].tolist()


def test_only_queries_above_the_score_whose_best_class_is_an_object_take_part():
    p = torch.tensor([[0.86, 0.04, 0.1], [0.05, 0.05, 0.9], [0.5, 0.4, 0.1], [0.02, 0.9, 0.08]])
    index, scores, labels = confident(p.log(), 0.85)
    assert index.tolist() == [0, 3]
    assert labels.tolist() == [0, 1]
    assert scores.tolist() == pytest.approx([0.86, 0.9])


def test_detections_rank_queries_by_their_best_class_and_stay_inside_the_image():
    p = torch.tensor([[0.3, 0.2, 0.5], [0.1, 0.8, 0.1], [0.04, 0.01, 0.95]])
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.1, 0.5, 0.4, 1.0], [0.5, 0.5, 1.0, 1.0]])
    found, query = detections(p.log(), boxes, (100, 200), 2)
    assert isinstance(found, Instances)
    assert query.tolist() == [1, 0]
    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.8, 0.3])
    torch.testing.assert_close(found.boxes, torch.tensor([[0.0, 0, 60, 100], [80, 30, 120, 70]]))


def test_masks_are_decided_on_the_input_and_enlarged_without_blending():
    logits = torch.full((1, 8, 8), -4.0)
    logits[0, 2:4, 2:6] = 4.0
    instances = Instances(
        torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), masks=to_rles(logits, Enlarge((8, 8), (8, 8), (16, 16)))
    )
    expected = np.zeros((16, 16), bool)
    expected[4:8, 4:12] = True
    assert (instances.mask(0) == expected).all()
