"""DETR as its users meet it: sizes and costs, gradients, predictions, stages, bad labels."""

import math

import pytest
import torch
from batches import RESNET, random_batch, small_detr

from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.models import build_model
from segcli.types import Batch


@pytest.mark.parametrize(
    ("backbone", "task", "classes", "parameters", "trainable", "gflops"),
    [
        ({}, "detection", 91, 41_524_768, 41_302_368, 86),
        ({"dilate_last": 1}, "detection", 91, 41_524_768, 41_302_368, 187),
        ({"depth": 101}, "detection", 91, 60_464_672, None, 152),
        ({"depth": 101, "dilate_last": 1}, "detection", 91, 60_464_672, None, 253),
        ({}, "panoptic", 250, 42_899_288, None, 250.7),
        ({"dilate_last": 1}, "panoptic", 250, 42_899_288, None, 597.4),
        ({"depth": 101}, "panoptic", 250, 61_839_192, None, 318.0),
    ],
    ids=["r50", "dc5-r50", "r101", "dc5-r101", "r50-panoptic", "dc5-r50-panoptic", "r101-panoptic"],
)
def test_published_size_and_cost(backbone, task, classes, parameters, trainable, gflops, capsys):
    settings = {"name": "detr", "backbone": {"name": "resnet", **backbone}}
    with torch.device("meta"):
        model = build_model(settings, task=task, num_classes=classes, num_things=min(classes, 91))
    assert sum(p.numel() for p in model.parameters()) == parameters
    if trainable is not None:
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable
    found = model.paper_gflops()
    with capsys.disabled():
        print(f"\n  {task} {backbone}: {parameters / 1e6:.3f}M, {found:.1f} GFLOP (published {gflops})", end="")
    assert found == pytest.approx(gflops, rel=0.015)


def test_parameter_names_are_the_official_ones():
    names = set(small_detr("instance", backbone=RESNET).state_dict())
    assert {n.split(".")[0] for n in names} == {"detr", "bbox_attention", "mask_head"}
    for name in [
        "detr.backbone.0.body.layer1.0.bn1.running_mean",
        "detr.transformer.encoder.layers.0.self_attn.in_proj_weight",
        "detr.transformer.decoder.layers.1.multihead_attn.out_proj.bias",
        "detr.transformer.decoder.layers.1.norm3.weight",
        "detr.transformer.decoder.norm.weight",
        "detr.class_embed.weight",
        "detr.bbox_embed.layers.2.bias",
        "detr.query_embed.weight",
        "detr.input_proj.weight",
        "bbox_attention.k_linear.bias",
        "mask_head.lay5.weight",
        "mask_head.gn5.bias",
        "mask_head.adapter3.weight",
        "mask_head.out_lay.bias",
    ]:
        assert name in names
    assert "detr.transformer.encoder.norm.weight" not in names
    assert {n.removeprefix("detr.") for n in names if n.startswith("detr.")} == set(
        small_detr("detection", backbone=RESNET).state_dict()
    )


@pytest.mark.parametrize("counts", [(2, 3), (0, 1), (0, 0), (1, 30)])
@pytest.mark.parametrize("task", ["detection", "instance", "panoptic"])
@pytest.mark.filterwarnings("ignore:image 11 has")
def test_every_trainable_parameter_gets_a_finite_gradient(task, counts):
    model = small_detr(task).train()
    losses = model(random_batch(counts))
    assert all(torch.isfinite(value) and value.ndim == 0 for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("task", ["detection", "instance"])
@torch.no_grad()
def test_predictions_are_on_the_original_pixels_and_ranked(task):
    model = small_detr(task).eval()
    model.max_detections = 7
    for prediction, image_id, size in zip(
        model.predict(random_batch()), [10, 11], [(120, 152), (128, 100)], strict=True
    ):
        assert (prediction.image_id, prediction.size) == (image_id, size)
        found = prediction.instances
        assert len(found) == 7
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([size[1], size[0]] * 2)).all()
        assert set(found.labels.tolist()) <= {0, 1, 2}
        if task == "instance":
            assert [rle["size"] for rle in found.masks] == [list(size)] * 7


@torch.no_grad()
def test_panoptic_map_covers_the_original_image():
    model = small_detr("panoptic", inference={"score": 0.0}).eval()
    model.detr.class_embed.bias.copy_(torch.tensor([0.0, 0, 0, 9, 9, 0]))
    for prediction, size in zip(model.predict(random_batch()), [(120, 152), (128, 100)], strict=True):
        assert prediction.panoptic.ids.shape == size
        assert {s.id for s in prediction.panoptic.segments} == set(np_unique(prediction.panoptic.ids))
        labels = [s.label for s in prediction.panoptic.segments]
        assert len(labels) == len(set(labels)) > 0  # stuff alone, each class once


@torch.no_grad()
def test_no_confident_query_gives_a_void_map():
    model = small_detr("panoptic", inference={"score": 0.999}).eval()
    for prediction, size in zip(model.predict(random_batch()), [(120, 152), (128, 100)], strict=True):
        assert prediction.panoptic.ids.shape == size
        assert not prediction.panoptic.ids.any()
        assert prediction.panoptic.segments == []


def np_unique(ids) -> list[int]:
    return sorted(set(ids.ravel().tolist()))


@torch.no_grad()
def test_network_gives_what_predict_reads():
    model = small_detr("instance").eval()
    one = random_batch()
    whole = Batch(
        one.images[:, :, :60, :50], torch.zeros(2, 60, 50, dtype=torch.bool), [(60, 50)] * 2, [(60, 50)] * 2, [1, 2]
    )
    logits, _, masks = model.network(whole.images)
    found = model.predict(whole)[0].instances
    best = logits[0].softmax(-1)[:, :-1].max(-1)[0]
    torch.testing.assert_close(found.scores, best.sort(descending=True)[0])
    query = best.argmax()
    canvas = torch.nn.functional.interpolate(masks[:1, query, None], size=(60, 50), mode="bilinear")[0, 0]
    assert (torch.from_numpy(found.mask(0)) == (canvas > 0)).all()


@torch.no_grad()
def test_half_precision_changes_little():
    model = small_detr("instance").eval()
    exact = model(random_batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(random_batch())
        found = model.predict(random_batch())
    for name in ("class", "l1", "giou", "mask", "dice"):
        torch.testing.assert_close(rough[name], exact[name], rtol=0.1, atol=0.02)
    assert all(p.instances.boxes.dtype == torch.float32 for p in found)


def test_counts_of_parts_of_a_step_give_the_whole_steps_loss():
    model = small_detr("instance").eval()
    whole = random_batch((1, 4))
    parts = [
        Batch(whole.images[i : i + 1], whole.padding[i : i + 1], [s], [s], [i], [whole.targets[i]])
        for i, s in enumerate(whole.sizes)
    ]
    counts = [model.normalisers(p) for p in parts]
    average = {key: sum(c[key] for c in counts) / 2 for key in counts[0]}
    together = model(whole)
    apart = [model(p, average) for p in parts]
    for name, value in together.items():
        torch.testing.assert_close((apart[0][name] + apart[1][name]) / 2, value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stage", "trained"), [("boxes", "detr."), ("masks", ("bbox_attention.", "mask_head."))])
def test_two_stages_train_one_part_each(stage, trained):
    model = small_detr("panoptic", stage=stage).train()
    losses = model(random_batch())
    assert set(losses) == ({"mask", "dice"} if stage == "masks" else set(small_detr("detection")(random_batch())))
    torch.stack(list(losses.values())).sum().backward()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names
    for name, parameter in model.named_parameters():
        assert name.startswith(trained) or not parameter.requires_grad
        assert (parameter.grad is not None) == parameter.requires_grad
    assert set(model.state_dict()) == set(small_detr("panoptic").state_dict())


def test_it_learns_two_objects():
    model = small_detr("instance", transformer={"dropout": 0.0}).train()
    one = random_batch((1, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    history = []
    for _ in range(20):
        loss = torch.stack(list(model(one).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.5 * history[0]
    model.eval()
    for prediction, target in zip(model.predict(one), one.targets, strict=True):
        assert prediction.instances.labels[0] == target.instances.labels[0]


@torch.no_grad()
def test_inspect_shows_attention_over_the_image_alone_and_the_matching():
    model = small_detr("instance").eval()
    one = random_batch((2, 3))
    found = model.inspect(one)
    h, w = found["decoder_attention"].shape[-2:]
    assert found["decoder_attention"].shape == (2, 2, 8, 12, h, w)
    assert found["encoder_attention"].shape == (2, 8, h * w, h, w)
    assert found["mask_attention"].shape == (2, 12, 8, h, w)
    assert found["mask_logits"].shape == (2, 12, 16, 19)
    torch.testing.assert_close(found["decoder_attention"].sum((-1, -2)), torch.ones(2, 2, 8, 12))
    torch.testing.assert_close(found["mask_attention"].sum((-1, -2, -3)), torch.ones(2, 12))
    assert (found["decoder_attention"][:, 1, ..., -1] == 0).all()  # image 11 is 50 of 76 columns wide
    assert found["labels"].tolist() == [*one.targets[0].instances.labels, *one.targets[1].instances.labels]
    torch.testing.assert_close(found["target_boxes"][2:], one.targets[1].instances.boxes)
    query, target = found["matching"][1]
    assert sorted(target.tolist()) == [2, 3, 4]
    assert len(set(query.tolist())) == 3
    plain = model.predict(one)[1].instances
    scores = found["class_probabilities"][1, :, :-1].max(-1)[0]
    torch.testing.assert_close(plain.scores, scores.sort(descending=True)[0])


def test_crowds_flat_boxes_and_stuff_are_no_objects():
    model = small_detr("detection")
    one = random_batch((2, 3))
    instances = one.targets[1].instances
    instances.crowd = torch.tensor([True, False, False])
    instances.boxes[1, 2] = instances.boxes[1, 0]
    instances.labels[2] = 4  # a stuff class
    assert model.targets(one).counts == [2, 0]


def test_more_objects_than_queries_is_a_warning_that_names_image_and_setting():
    with pytest.warns(UserWarning, match=r"image 11 has 20 objects and model\.queries is 12"):
        small_detr("detection")(random_batch((1, 20)))


def test_a_broken_box_names_its_image():
    one = random_batch((1, 1))
    one.targets[1].instances.boxes[0, 2] = math.nan
    with pytest.raises(SegcliError, match="image 11 "):
        small_detr("detection")(one)


def test_missing_masks_name_their_image():
    one = random_batch((1, 1))
    one.targets[1].instances.masks = None
    with pytest.raises(DataError, match="image 11"):
        small_detr("instance")(one)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="does not do task 'semantic'"):
        small_detr("semantic")
    with pytest.raises(UsageError, match=r"model\.stage"):
        small_detr("detection", stage="masks")
    with pytest.raises(UsageError, match="querys"):
        small_detr("detection", querys=5)
    for change in ({"transformer": {"dim": 64}}, {"transformer": {"heads": 4}}):
        with pytest.raises(UsageError, match=r"model\.transformer\.dim to be a multiple of 128"):
            small_detr("instance", **change)
