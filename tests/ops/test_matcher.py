"""The matching is optimal, independent per image and layer, and names the image whose costs are broken."""

import itertools

import pytest
import torch

from segcli.core.errors import SegcliError
from segcli.ops import losses, matcher


def costs(*objects: int, layers: int = 2, queries: int = 5, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(layers, queries, n, generator=generator) for n in objects]


def test_pairs_have_the_least_total_cost_over_all_assignments():
    (table,) = costs(3)
    found = matcher.match([table], [7])
    for layer in range(2):
        query, target = found.pairs(layer, 0)
        total = table[layer][query, target].sum()
        best = min(
            sum(table[layer][q, n] for n, q in enumerate(choice)) for choice in itertools.permutations(range(5), 3)
        )
        torch.testing.assert_close(total, best)


def test_a_batch_is_matched_as_its_images_are_alone():
    tables = costs(3, 0, 4, 1)
    together = matcher.match(tables, [1, 2, 3, 4])
    first = [0, 3, 3, 7]
    for i, table in enumerate(tables):
        alone = matcher.match([table], [0])
        for layer in range(2):
            query, target = together.pairs(layer, i)
            assert query.tolist() == alone.pairs(layer, 0)[0].tolist()
            assert (target - first[i]).tolist() == alone.pairs(layer, 0)[1].tolist()


def test_more_objects_than_queries_leave_objects_over():
    found = matcher.match(costs(9, layers=1), [0])
    assert sorted(found.query.tolist()) == [0, 1, 2, 3, 4]
    assert len(set(found.object.tolist())) == 5


def test_no_object_at_all_gives_no_pair():
    found = matcher.match(costs(0, 0), [0, 1])
    assert len(found.query) == 0
    assert found.take(torch.zeros(2, 2, 5, 4)).shape == (0, 4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_costs_that_are_not_finite_name_the_image(value: float):
    tables = costs(2, 3)
    tables[1][0, 2, 1] = value
    with pytest.raises(SegcliError, match="image 42 "):
        matcher.match(tables, [41, 42])


def test_mask_costs_are_the_mask_losses_of_every_pair():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 60, generator=generator) * 4
    masks = (torch.rand(3, 60, generator=generator) > 0.6).float()
    for cost, loss in [(matcher.focal_cost, losses.focal), (matcher.dice_cost, losses.dice)]:
        table = cost(logits, masks)
        for layer, query, n in itertools.product(range(2), range(4), range(3)):
            expected = loss(logits[layer, query][None], masks[n][None])[0]
            torch.testing.assert_close(table[layer, query, n], expected, rtol=1e-4, atol=1e-5)


def test_box_costs_equal_the_box_losses_of_every_pair():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 4, 2, generator=generator)
    found = torch.cat([corner, corner + torch.rand(2, 4, 2, generator=generator)], -1)
    targets = found[0, :3] + 0.05
    for layer, query, n in itertools.product(range(2), range(4), range(3)):
        one, other = found[layer, query][None], targets[n][None]
        torch.testing.assert_close(matcher.l1_cost(found, targets)[layer, query, n], losses.l1(one, other)[0])
        torch.testing.assert_close(
            matcher.giou_cost(found, targets)[layer, query, n] + 1, losses.giou(one, other)[0], rtol=1e-4, atol=1e-5
        )
