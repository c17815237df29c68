"""The options for little data: what each of them promises, and that transformers computes the same where it has it."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from batches import TRUNK, batch, merged
from transformers.models.deformable_detr.configuration_deformable_detr import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMultiscaleDeformableAttention

from segcli.core.errors import DataError, UsageError
from segcli.engine import cost
from segcli.engine.checkpoint import load_weights, save_weights
from segcli.models import build_model
from segcli.models.layers.box_queries import best_cells
from segcli.models.layers.deformable import DeformableAttention
from segcli.models.layers.denoising import make_noise
from segcli.models.layers.hybrid_encoder import to_tokens
from segcli.models.layers.targets import Targets
from segcli.models.maskformer.box_masks import BoxMasks, sample_points
from segcli.models.maskformer.mask_set_loss import MaskOutputs
from segcli.models.maskformer.point_loss import logits_at, losses_at_points, masks_at, read_points
from segcli.models.maskformer.stuff_kernels import StuffKernels
from segcli.ops import boxes
from segcli.ops.losses import matchability
from segcli.ops.matcher import Matching
from segcli.types import IGNORE, Batch, Instances, Target

LAYERS = {"encoder_layers": 1, "decoder_layers": 2}
LITE = {
    **{"backbone": TRUNK, "queries": 10, "levels": 3},
    "transformer": {"dim": 64, "heads": 4, "ffn": 64, "dropout": 0.0, **LAYERS},
}
CHOSEN = {**LITE, "boxes": {"deformable": True, "selection": True, "denoising": 12}}


def model(name="detr_lite", task="detection", settings=CHOSEN, **more):
    torch.manual_seed(0)
    return build_model({"name": name, **merged(settings, more)}, task=task, num_classes=3, num_things=2)


@torch.no_grad()
def test_deformable_attention_equals_transformers():
    torch.manual_seed(0)
    theirs = DeformableDetrMultiscaleDeformableAttention(
        DeformableDetrConfig(d_model=32, num_feature_levels=3, use_timm_backbone=False), num_heads=4, n_points=4
    )
    ours = DeformableAttention(32, 4, 3)
    for ours_layer, their_layer in [
        (ours.value, theirs.value_proj),
        (ours.out, theirs.output_proj),
        (ours.offsets, theirs.sampling_offsets),
        (ours.weights, theirs.attention_weights),
    ]:
        torch.nn.init.normal_(their_layer.weight, std=0.3)
        torch.nn.init.normal_(their_layer.bias)
        ours_layer.load_state_dict(their_layer.state_dict())
    maps = [torch.randn(2, 32, h, w) for h, w in [(11, 13), (6, 7), (3, 4)]]
    query, box = torch.randn(2, 5, 32), torch.rand(2, 5, 4) * 0.6 + 0.2
    sizes = torch.tensor([m.shape[2:] for m in maps])
    expected, _ = theirs(
        query,
        encoder_hidden_states=torch.cat([to_tokens(m) for m in maps], 1),
        reference_points=box[:, :, None].expand(-1, -1, 3, -1),
        spatial_shapes=sizes,
        spatial_shapes_list=[tuple(s) for s in sizes.tolist()],
        level_start_index=torch.cat([sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]]),
    )
    torch.testing.assert_close(ours(query, box, maps), expected, rtol=1e-5, atol=1e-6)


def test_noise_is_light_or_heavy_and_hides_the_answers():
    labels = torch.tensor([0, 1, 1])
    found = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.3, 0.6, 0.2, 0.2], [0.5, 0.5, 0.3, 0.3]])
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    noise = make_noise(labels, found, [2, 0, 1], 2, 12, generators)
    assert noise.boxes.shape == (3, 12, 4)
    assert (noise.group.amax(1) + 1).tolist() == [3, 0, 6]
    assert noise.share.sum(1).tolist() == pytest.approx([4, 0, 2])  # two copies of each object, whatever the groups
    wanted = boxes.to_xyxy(found[noise.object])
    overlap = boxes.iou(boxes.to_xyxy(noise.boxes[noise.image, noise.query]), wanted)
    assert overlap.min() > 0.2  # a side moves by half an extent at most
    heavy = noise.query + torch.where(noise.image == 0, 2, 1)  # a group's second copies follow its first ones
    assert boxes.iou(boxes.to_xyxy(noise.boxes[noise.image, heavy]), wanted).mean() < overlap.mean() / 2
    hidden = noise.attention_mask(4) == -torch.inf
    assert hidden.shape == (3, 1, 16, 16)
    hidden = hidden[0, 0]
    assert hidden[12:, :12].all()  # a real query sees no copy
    assert not hidden[12:, 12:].any()
    assert not hidden[:4, :4].any()
    assert hidden[:4, 4:12].all()  # nor do other groups
    alone = make_noise(labels[2:], found[2:], [1], 2, 12, [torch.Generator().manual_seed(2)])
    assert torch.equal(alone.boxes[0], noise.boxes[2])  # whoever else is in the batch
    assert torch.equal(alone.labels[0], noise.labels[2])
    assert make_noise(labels[:0], found[:0], [0, 0], 2, 12, generators[:2]) is None


@torch.no_grad()
def test_real_queries_do_not_depend_on_the_noise():
    net, data = model(), batch()
    features = net.backbone(data.images)[-3:]
    wanted = net.targets(data)
    with_noise, without = net.head(features, data, wanted), net.head(features, data)
    assert with_noise.noise is not None
    torch.testing.assert_close(with_noise.logits, without.logits)
    torch.testing.assert_close(with_noise.boxes, without.boxes)


@torch.no_grad()
def test_groups_are_blind_to_each_other_and_only_the_first_predicts():
    net, data = model(settings=LITE, boxes={"groups": 3}), batch()
    features = net.backbone(data.images)[-3:]
    training = net.train().head(features, data)
    single = net.eval().head(features, data)
    assert training.logits.shape[:3] == (6, 2, 10)
    torch.testing.assert_close(training.boxes[[0, 3]], single.boxes)  # layer by layer, a group after the other


def test_distinct_cells_come_first_and_then_the_best_of_the_others():
    score = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, -torch.inf]])
    found = torch.tensor(
        [[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 8], [5, 0, 15, 10], [50, 50, 60, 60]]]
    )
    assert best_cells(score, found, 4, None).tolist() == [[0, 1, 2, 3]]
    assert best_cells(score, found, 4, 0.7).tolist() == [[0, 2, 4, 1]]
    # an IoU of 0.8 is distinct enough; what is not in the image comes last
    assert best_cells(score, found, 9, 0.85).tolist() == [[0, 2, 3, 4, 1, 5]]


def test_distinct_queries_cost_what_others_do():
    chosen, distinct = (cost.flops(model(**more), (96, 128)) for more in ({}, {"boxes": {"distinct": 0.7}}))
    assert chosen["gflops"] == distinct["gflops"] > 0


@torch.no_grad()
@pytest.mark.parametrize("settings", [CHOSEN, merged(CHOSEN, {"boxes": {"distinct": 0.8}}), LITE])
def test_what_lies_in_the_padding_is_never_chosen_and_boxes_lie_in_the_image(settings):
    net, data = model(settings=settings).eval(), batch()
    for prediction, (h, w) in zip(net.predict(data), data.original_sizes, strict=True):
        found = prediction.instances
        assert len(found) == 20
        assert (found.boxes[:, 2:] <= torch.tensor([w, h])).all()
        assert (found.scores[:-1] >= found.scores[1:]).all()
    if settings is not LITE:
        out = net.head(net.backbone(data.images)[-3:], data)
        assert out.dense is not None


@torch.no_grad()
@pytest.mark.parametrize("name", ["detr_lite", "maskformer_lite"])
def test_a_padded_image_gives_nearly_what_it_gives_alone(name):
    """Padding moves no box: shares of the canvas become the image's own pixels again."""
    net = model(name, "detection" if name == "detr_lite" else "instance").eval()
    image = torch.randn(1, 3, 64, 64)
    wide = torch.zeros(1, 3, 64, 128)
    wide[..., :64] = image
    padding = torch.zeros(1, 64, 128, dtype=torch.bool)
    padding[..., 64:] = True
    alone = Batch(image, padding[..., :64], [(64, 64)], [(100, 100)], [0])
    padded = Batch(wide, padding, [(64, 64)], [(100, 100)], [0])
    first, second = (net.predict(b)[0].instances for b in (alone, padded))
    assert first.boxes[:, 2].max() > 50
    torch.testing.assert_close(first.scores[:3], second.scores[:3], rtol=0.2, atol=0.02)
    assert second.boxes[:, 2].max() <= 100


def test_box_masks_at_points_are_the_whole_masks_read_there():
    torch.manual_seed(0)
    masks = BoxMasks(fine=6, dim=16, width=8)
    torch.nn.init.normal_(masks.coarse.weight)
    pixels, hidden = torch.randn(2, 8, 24, 32), torch.randn(3, 16)
    found, image = torch.rand(3, 4) * 0.4 + 0.3, torch.tensor([1, 0, 1])
    row, column = torch.tensor([0, 5, 23]), torch.tensor([31, 8, 2])  # cell centres, where reading interpolates nothing
    points = torch.stack([(column + 0.5) / 32, (row + 0.5) / 24], -1).expand(3, -1, -1)
    logits = masks.at_points(pixels, hidden, found, image, points)
    for m in range(3):
        whole = masks.whole(pixels[image[m]], hidden[m : m + 1], found[m : m + 1])
        torch.testing.assert_close(logits[m], whole[0, row, column], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_mask_begins_as_the_ellipse_in_its_box():
    masks = BoxMasks(fine=6, dim=16, width=8)
    box = torch.tensor([[0.5, 0.5, 0.5, 0.75]])
    inside = masks.whole(torch.zeros(8, 64, 64), torch.zeros(1, 16), box)[0] > 0
    assert inside[32, 32]
    assert not inside[:8].any()
    assert not inside[:, :16].any()
    assert inside.float().mean() == pytest.approx(torch.pi / 4 * 0.5 * 0.75, rel=0.02)


@torch.no_grad()
def test_a_predicted_mask_ends_with_its_box():
    torch.manual_seed(0)
    masks = BoxMasks(fine=6, dim=16, width=8)
    masks.coarse.bias.fill_(3.0)
    pixels, hidden, box = torch.randn(8, 32, 32), torch.randn(1, 16), torch.tensor([[0.5, 0.25, 0.25, 0.5]])
    whole, inside = masks.whole(pixels, hidden, box)[0], masks.inside(pixels, hidden, box)[0]
    assert (whole[20:] > 0).any()
    assert (inside[17:] < -7).all()
    assert (inside[:, :11] < -7).all()
    assert torch.equal(inside[1:15, 13:19], whole[1:15, 13:19])


def test_points_lie_mostly_in_the_box_and_read_the_labels():
    box = torch.tensor([[0.25, 0.5, 0.1, 0.2]])
    points = sample_points(box, 400, torch.Generator().manual_seed(0))
    assert (points >= 0).all()
    assert (points < 1).all()
    near = ((points[0] - box[0, :2]).abs() < box[0, 2:] * 0.63 + 0.01).all(-1)
    assert 300 <= near.sum() < 330
    masks = torch.zeros(2, 10, 20, dtype=torch.bool)
    masks[1, :, :5] = True
    assert torch.equal(masks_at(masks, torch.tensor([1]), points)[0].bool(), points[0, :, 0] < 0.25)


def test_masks_read_at_points_are_products_with_the_pixels_read_there():
    torch.manual_seed(0)
    pixels, embeddings = torch.randn(4, 7, 9), torch.randn(3, 4)
    points = torch.rand(3, 50, 2)
    found = logits_at(embeddings, pixels, points)
    read = torch.stack([read_points(pixels[None], row[None])[0] for row in points])
    torch.testing.assert_close(found, (embeddings[:, None] @ read)[:, 0], atol=1e-5, rtol=1e-5)
    assert logits_at(embeddings[:0], pixels, points[:0]).shape == (0, 50)


def test_point_losses_are_those_of_the_mask_read_at_its_least_sure_points():
    torch.manual_seed(0)
    pixels, embeddings = torch.randn(2, 4, 12, 16), torch.randn(1, 2, 3, 4)
    masks = torch.rand(2, 48, 64) > 0.5
    out = MaskOutputs(torch.randn(1, 2, 3, 3), embeddings, pixels)
    matching = Matching(*torch.tensor([[0, 0], [0, 1], [2, 1], [0, 1]]))
    entropy, dice = losses_at_points(out, Targets(torch.tensor([0, 1]), masks, [1, 1]), matching, 64, [3, 4])
    assert entropy.shape == dice.shape == (2,)
    everywhere = torch.rand(1, 5000, 2)
    logits = embeddings[0, 0, 2] @ read_points(pixels[:1], everywhere)[0]
    mean = F.binary_cross_entropy_with_logits(
        logits, masks_at(masks[:1], torch.zeros(1, dtype=torch.long), everywhere)[0]
    )
    assert 0.6 < entropy[0] < mean  # near the mask's edge a wrong label costs log 2, elsewhere much more


def test_matchability_is_cross_entropy_on_matched_and_falls_off_elsewhere():
    logits, goals = torch.tensor([2.0, -4.0, 4.0]), torch.tensor([0.8, 0.0, 0.0])
    found = matchability(logits, goals)
    plain = F.binary_cross_entropy_with_logits(logits, goals, reduction="none")
    assert found[0] == plain[0]
    assert found[1] < 0.01 * plain[1]
    assert found[2] > 0.95 * plain[2]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("detr_lite", {"boxes": {"selection": True, "groups": 2}}, "model.boxes.groups is for learned queries"),
        (
            "detr_lite",
            {"boxes": {"distinct": 0.8}},
            "model.boxes.distinct chooses among the cells of model.boxes.selection",
        ),
        ("detr_lite", {"boxes": {"selection": True, "distinct": 1.5}}, "distinct is an IoU between 0 and 1, not 1.5"),
        ("detr_lite", {**LITE, "levels": 9}, "model.levels must be from 1 to 4"),
        ("mask2former_lite", {"levels": 5}, "model.levels must be from 1 to 4"),
        ("maskformer_lite", {**CHOSEN, "kernels": True}, "model.kernels of maskformer_lite is for task panoptic"),
    ],
)
def test_options_that_do_not_go_together_are_named(name, settings, message):
    with pytest.raises(UsageError, match=message):
        model(name, "detection" if name == "detr_lite" else "instance", settings)


def stuff_map(h: int, w: int) -> torch.Tensor:
    """Labels of an image: two things, left and right, between them two kinds of stuff and an unlabelled row."""
    labels = torch.full((h, w), 2)
    labels[: h // 2] = 3
    labels[:, : w // 4], labels[:, -w // 4 :] = 0, 1
    labels[0] = IGNORE
    return labels


def test_stuff_kernels_learn_every_labelled_pixel_and_say_which_stuff_is_there():
    kernels = StuffKernels(things=2, stuff=2, width=8)
    target = Target(7, (16, 16), Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    target.semantic = stuff_map(16, 16)
    right = torch.stack([target.semantic == 2, target.semantic == 3, target.semantic < 2]).float()[None]
    assert kernels.loss(50 * right, [target], (16, 16)) < 1e-3
    wrong = kernels.loss(50 * right.flip(1), [target], (16, 16))
    assert wrong > 20
    right[:, :, 0] = torch.randn(3, 16)  # nothing is learned where nothing is labelled
    assert kernels.loss(50 * right, [target], (16, 16)) < 1e-3
    unlabelled = dataclasses.replace(target, semantic=torch.full((16, 16), IGNORE))
    assert kernels.loss(50 * right, [unlabelled], (16, 16)) == 0
    with pytest.raises(DataError, match="image 7 has no semantic labels, and task panoptic needs them"):
        kernels.loss(50 * right, [dataclasses.replace(target, semantic=None)], (16, 16))
    found = torch.stack([right[0, 0, 1:], torch.zeros(15, 16), right[0, 2, 1:]])
    scores, logits = kernels.read(50 * found, (15, 16))
    assert scores[0] > 0.99
    assert scores[1] == 0  # nowhere at least one half
    assert torch.equal(logits[0] > 0, target.semantic[1:] == 2)
    found[1, 10:] = 2  # in the padding
    assert torch.equal(kernels.read(50 * found, (10, 16))[0], kernels.read(50 * found[:, :10], (10, 16))[0])


@pytest.mark.parametrize(("things", "missing"), [(0, "thing"), (3, "stuff")])
def test_stuff_kernels_need_things_and_stuff(things, missing):
    settings = {"name": "maskformer_lite", **CHOSEN, "kernels": True}
    with pytest.raises(UsageError, match=f"the dataset declares no {missing}"):
        build_model(settings, task="panoptic", num_classes=3, num_things=things)


@torch.no_grad()
def test_stuff_with_kernels_is_found_without_a_query():
    net = model(
        "maskformer_lite",
        "panoptic",
        kernels=True,
        inference={"outputs": ["panoptic", "semantic"], "score": 0.9, "overlap": 0.0},
    ).eval()
    assert net.head.num_classes == 2
    data = batch()
    for target in data.targets:
        target.semantic = stuff_map(*target.size).clamp(max=2)
    assert net.targets(data).labels.tolist() == [0, 1, 0]
    net.stuff.kernels.weight.zero_()
    net.stuff.kernels.bias.copy_(torch.tensor([4.0, 0.0]))
    for prediction in net.predict(data):
        assert [s.label for s in prediction.panoptic.segments] == [2]
        assert prediction.panoptic.segments[0].score == pytest.approx(0.982, abs=0.001)
        assert (prediction.semantic == 2).all()
    net.stuff.kernels.bias.copy_(torch.tensor([2.0, 0.0]))  # 0.88, below model.score
    assert not any(prediction.panoptic.segments for prediction in net.predict(data))
    net.stuff.kernels.bias.copy_(torch.tensor([-1.0, 0.0]))  # below one half, and above any query's class
    assert all((prediction.semantic == 2).all() for prediction in net.predict(data))


def test_an_instance_model_begins_a_panoptic_one_with_kernels_and_the_other_way_round(tmp_path):
    instance, panoptic = model("maskformer_lite", "instance"), model("maskformer_lite", "panoptic", kernels=True)
    for source, other in ((instance, panoptic), (panoptic, instance)):
        save_weights(tmp_path / "w.safetensors", source.state_dict(), {})
        report = load_weights(other, tmp_path / "w.safetensors")
        assert all(key.startswith("stuff.kernels.") for key in report["missing"] + report["unexpected"])
        assert report["missing"] + report["unexpected"]
        torch.testing.assert_close(other.masks.coarse.weight, source.masks.coarse.weight)


def test_losses_fall_on_one_batch():
    net, data = model("maskformer_lite", "instance", loss={"points": 64}), batch()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    totals = []
    for _ in range(20):
        loss = torch.stack(list(net(data).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.5 * totals[0]


@pytest.mark.parametrize("name", ["detr", "detr_lite", "maskformer", "maskformer_lite"])
def test_training_knows_how_many_objects_can_be_found(name):
    settings = LITE if name.endswith("_lite") else {k: v for k, v in LITE.items() if k != "levels"}
    assert model(name, "detection" if "detr" in name else "instance", settings).queries == 10
