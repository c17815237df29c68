"""The DensePose heads: what they cost, learn and predict."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcli.fields.densepose import DensePose, Surface, surface
from segcli.models.interface import Detections, Samples
from segcli.models.rcnn.heads import densepose, legacy_densepose, lite_densepose
from segcli.models.rcnn.heads.densepose import DensePoseHead, PyramidSum, read_at
from segcli.types import Instances, Target

STRIDES = [4, 8, 16, 32]
SURFACE = surface({})
SIZE = (64, 64)


def current(**settings: object) -> DensePoseHead:
    return densepose.build(declared={}, channels=16, strides=STRIDES, **{"width": 16, "convolutions": 1, **settings})


def lite() -> DensePoseHead:
    return lite_densepose.build(declared={}, fine=16, width=16, convolutions=1)


def pyramid(images: int = 1, channels: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(images, channels, 64 // s, 64 // s, generator=generator) for s in STRIDES]


def labels(points: list[torch.Tensor], boxes: torch.Tensor, coarse: torch.Tensor | None) -> DensePose:
    low, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    place = torch.stack([torch.cat([torch.diag(s / 256), o[:, None]], 1) for s, o in zip(size, low, strict=True)])
    return DensePose(points, [coarse] * len(points), place, SURFACE, None, None)


def samples(
    rows: list[list[float]], coarse: torch.Tensor | None = None, box: tuple[float, ...] = (8, 8, 40, 56)
) -> Samples:
    """One image with one object that has the labelled points `rows`, and one sample `box` of it."""
    truth = torch.tensor([[8.0, 8, 40, 56]])
    field = labels([torch.tensor(rows).view(-1, 5)], truth, coarse)
    target = Target(1, SIZE, Instances(truth, torch.tensor([0]), fields={"densepose": field}))
    return Samples([torch.tensor([box]).float()], [torch.tensor([1])], [torch.tensor([0])], [target], [0])


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# a Faster R-CNN with ResNet-50 and FPN of one class, by detectron2's count: 41,299,161 without the four offsets that
# torchvision's box head has for the background
DETECTOR = 41_299_161 - 4 * 1025


@pytest.mark.parametrize(
    ("build", "millions"),
    [(densepose.build, 63.821), (legacy_densepose.build, 59.731)],
    ids=["current", "legacy"],
)
def test_they_have_the_published_models_number_of_parameters(build, millions: float):
    head = build(declared={}, channels=256, strides=STRIDES)
    assert (DETECTOR + parameters(head)) / 1e6 == pytest.approx(millions, abs=6e-4)


def test_a_declared_surface_decides_the_number_of_channels():
    head = legacy_densepose.build(declared={"densepose": {"charts": 6, "coarse": 3}}, channels=16, strides=STRIDES)
    assert head.predictor.sizes == [4, 7, 7, 7]


def test_the_pyramid_is_summed_at_stride_4_whatever_its_sizes():
    decoder = PyramidSum(16, STRIDES, width=8)
    features = [torch.randn(2, 16, *(-(-side // s) for side in (72, 100))) for s in STRIDES]
    out = decoder(features)
    assert out.shape == (2, 8, 18, 25)
    alone = [level(x)[..., :18, :25] for level, x in zip(decoder.levels, features, strict=True)]
    expected = decoder.predictor(sum(F.pad(x, (0, 25 - x.shape[-1], 0, 18 - x.shape[-2])) for x in alone))
    assert torch.allclose(out, expected)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_maps_are_read_between_their_cells(shift: float):
    ramp = torch.arange(8.0).expand(8, 8)
    maps = torch.stack([ramp, ramp.T])[None]
    place = torch.tensor([[0.3, 0.7], [0.0, 0.999], [0.55, 0.1]])
    expected = (place * 8 - shift).clamp(0, 7)
    assert torch.allclose(read_at(maps, torch.zeros(3, dtype=torch.int64), place, shift), expected, atol=1e-5)


def test_losses_are_those_of_the_labelled_points_alone():
    """By hand: the chart's cross-entropy and the distance of u and v in that chart's channel, at one point."""
    head, features = current(), pyramid()
    given = samples([[24, 32, 5, 0.25, 0.75]])
    losses = head.loss(features, given)
    maps = F.interpolate(head._run(features, given.boxes), scale_factor=2, mode="bilinear")[0]
    at = maps[:, 56, 56]  # half way across and down 112 cells
    _, charts, u, v = at.split([2, 25, 25, 25])
    assert losses["loss_densepose_coarse"] == 0
    chart = F.cross_entropy(charts[None], torch.tensor([5]))
    assert torch.isclose(losses["loss_densepose_chart"], chart)
    assert torch.isclose(losses["loss_densepose_u"], 0.02 * F.smooth_l1_loss(u[5], torch.tensor(0.25)))
    assert torch.isclose(losses["loss_densepose_v"], 0.02 * F.smooth_l1_loss(v[5], torch.tensor(0.75)))


def test_coarse_parts_are_learned_where_they_lie_on_the_sample():
    coarse = torch.zeros(256, 256, dtype=torch.uint8)
    coarse[:, 128:] = 7  # the right half of the labelled box, x from 24 to 40
    given = samples([[24, 32, 5, 0.25, 0.75]], coarse, box=(8, 8, 40, 40))
    for head, part in ((current(), 1), (legacy_densepose.build(declared={}, channels=16, strides=STRIDES, width=8), 7)):
        index, parts = head._coarse_targets(given, 8)
        assert index.tolist() == [0]
        assert parts[0, 3].tolist() == [0] * 4 + [part] * 4


def test_samples_far_from_their_object_and_objects_without_points_teach_nothing():
    point = [[24, 32, 5, 0.25, 0.75]]
    for given in (samples([]), samples(point, box=(8, 8, 40, 24))):
        for head in (current(), lite()):
            losses = head.loss(pyramid(), given)
            assert set(losses) == {f"loss_densepose_{part}" for part in ("coarse", "chart", "u", "v")}
            assert all(float(v) == 0 for v in losses.values())
            sum(losses.values()).backward()
            assert all(p.grad is not None for p in head.parameters())


def test_it_learns_what_one_object_shows():
    torch.manual_seed(0)
    head = lite()
    features, coarse = pyramid(), torch.full((256, 256), 3, dtype=torch.uint8)
    rows = [[10 + 4 * i, 10 + 6 * i, 1 + i % 3, 0.1 * i, 1 - 0.1 * i] for i in range(7)]
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    first = None
    for _ in range(15):
        loss = sum(head.loss(features, samples(rows, coarse)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = first or float(loss)
    assert float(loss) < 0.5 * first


def test_predictions_lie_on_the_original_pixels_and_only_the_best_are_described():
    head = lite()
    with torch.no_grad():
        head.predictor.ann_index_lowres.bias.copy_(torch.tensor([0.0, 50]))  # a person everywhere
        head.predictor.index_uv_lowres.bias[3] = 50
        head.predictor.u_lowres.bias[3], head.predictor.v_lowres.bias[3] = 0.4, 7
        for layer in (head.predictor.u_lowres, head.predictor.v_lowres):
            layer.weight.zero_()
    boxes = torch.tensor([[8.0, 8, 40, 56]]).repeat(22, 1)
    found = [Detections(boxes, torch.zeros(22, dtype=torch.int64), torch.linspace(1, 0, 22))]
    with torch.no_grad():
        head.predict(pyramid(), found)
        field = head.finish(found[0], (64, 64), (128, 192))["fields"]["densepose"]
    assert torch.equal(field.boxes[0], torch.tensor([24.0, 16, 120, 112]))
    assert [m.shape for m in field.maps] == [(3, 96, 96)] * 20 + [(3, 1, 1)] * 2
    assert {tuple(v) for v in field.maps[0].flatten(1).T.tolist()} == {(3, 102, 255)}  # 0.4 · 255; 7 is cut to 1
    assert not field.maps[21].any()


def test_background_of_the_coarse_parts_is_background():
    head = lite()
    with torch.no_grad():
        head.predictor.ann_index_lowres.bias.copy_(torch.tensor([50.0, 0]))
        found = [Detections(torch.tensor([[8.0, 8, 40, 56]]), torch.zeros(1, dtype=torch.int64), torch.ones(1))]
        head.predict(pyramid(), found)
        [fieldmap] = head.finish(found[0], SIZE, SIZE)["fields"]["densepose"].maps
    assert not np.asarray(fieldmap).any()


def test_surfaces_with_other_charts_than_a_head_has_are_told_apart():
    assert Surface(charts=6) != SURFACE
