"""MaskFormer as a model: three tasks from one set of outputs, losses on any labels, costs as published."""

import warnings

import pytest
import torch
from batches import EMPTY, MASKFORMER, batch_of, small_maskformer, stripes

from segcli.core.errors import DataError, UsageError
from segcli.models import build_model


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
@pytest.mark.parametrize("pixel_decoder", ["fpn", "transformer"])
def test_every_parameter_learns_from_every_batch(task, pixel_decoder):
    model = small_maskformer(task, pixel_decoder=pixel_decoder)
    for batch in (batch_of(stripes(1), stripes(2, objects=1)), batch_of(stripes(1), EMPTY), batch_of(EMPTY, EMPTY)):
        model.zero_grad()
        losses = model(batch)
        assert set(losses) == {"class", "mask", "dice", "class_aux", "mask_aux", "dice_aux"}
        assert all(v.ndim == 0 and torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()
        without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert without == []
    assert losses["mask"] == 0  # nothing is labelled in the last batch; every query learns "no object"
    assert losses["class"] > 0


def test_losses_fall_on_one_batch():
    model = small_maskformer("panoptic", transformer={"dropout": 0.0})
    batch = batch_of(stripes(1), stripes(2))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    totals = []
    for _ in range(16):
        loss = torch.stack(list(model(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.5 * totals[0]


@torch.no_grad()
def test_one_model_predicts_all_three_tasks_on_the_original_pixels():
    inference = {"outputs": ["semantic", "instance", "panoptic"], "score": 0.01, "overlap": 0.0}
    model = small_maskformer("panoptic", inference=inference).eval()
    model.max_detections = 5
    prediction, other = model.predict(batch_of(stripes(1), stripes(2)))
    assert (prediction.image_id, other.image_id) == (1, 2)
    assert prediction.size == (101, 163)
    assert prediction.semantic.shape == (101, 163)
    assert prediction.semantic.max() < 4
    assert prediction.panoptic.ids.shape == (101, 163)
    assert {s.id for s in prediction.panoptic.segments} >= set(prediction.panoptic.ids.flatten().tolist()) - {0}
    found = prediction.instances
    assert len(found) <= 5
    assert (found.labels < 2).all()
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.mask(0).shape == (101, 163)
    assert small_maskformer("instance").eval().predict(batch_of(stripes(1)))[0].semantic is None


@torch.no_grad()
def test_two_halves_with_shared_normalisers_sum_to_the_whole():
    model = small_maskformer("instance").eval()
    halves = [batch_of(stripes(1, objects=1)), batch_of(stripes(2, objects=3))]
    halves[1].images += 0.5
    whole = batch_of(stripes(1, objects=1), stripes(2, objects=3))
    whole.images[:] = torch.cat([half.images for half in halves])
    divisors = model.normalisers(whole)
    parts = [model(half, divisors) for half in halves]
    for name, value in model(whole).items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-4)


def test_more_segments_than_queries_warns_once_with_image_and_setting():
    model = small_maskformer("instance", queries=2)
    batch = batch_of(stripes(1, objects=1), stripes(7, objects=5))
    with pytest.warns(UserWarning, match=r"image 7 has 5 objects and model\.queries is 2.*at least 5"):
        model(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = model(batch)
    assert all(torch.isfinite(v) for v in losses.values())


def test_ignored_pixels_and_a_class_never_seen_enter_nothing():
    model = small_maskformer("semantic").eval()
    found = model.inspect(batch_of(stripes(1), EMPTY))
    assert found["labels"].tolist() == [0, 1, 3]
    assert [len(queries) for queries, _ in found["matching"]] == [3, 0]
    assert found["masks"].shape == (3, 64, 96)
    assert not found["masks"][:, :, 80:].any()


@pytest.mark.parametrize("more", [{}, {"name": "mask2former_lite", "levels": 2, "loss": {"points": 64}}])
def test_fixed_matching_gives_every_class_its_own_query_in_every_layer(more):
    model = small_maskformer("semantic", queries=None, matching="fixed", **more)
    assert model.queries == 4
    batch = batch_of(stripes(1), EMPTY, stripes(2, objects=1))
    targets = model.targets(batch)
    layers = len(model.run(batch.images).logits)
    matching = model.match(model.run(batch.images), targets, batch)
    assert torch.equal(matching.query, targets.labels.repeat(layers))
    assert torch.equal(matching.object, torch.arange(5).repeat(layers))
    assert matching.image.tolist() == [0, 0, 0, 2, 2] * layers
    assert matching.layer.tolist() == [i for i in range(layers) for _ in range(5)]
    losses = model(batch)
    assert all(torch.isfinite(v) for v in losses.values())


FIXED = {"queries": None, "matching": "fixed"}
MASKED = {"name": "mask2former_lite", "levels": 2, "loss": {"points": 64}}


def test_kernels_are_the_first_mask_embeddings_of_every_layer_and_learn():
    model = small_maskformer("semantic", **FIXED, **MASKED, kernels=True)
    kernels = model.sem_seg_head.predictor.kernels
    out = model.run(batch_of(stripes(1), stripes(2)).images)
    assert torch.equal(out.embeddings, kernels.expand_as(out.embeddings))
    sum(model(batch_of(stripes(1), stripes(2))).values()).backward()
    assert kernels.grad[[0, 1, 3]].abs().sum(1).min() > 0
    model.zero_grad()
    sum(model(batch_of(EMPTY, EMPTY)).values()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    other = build_model(
        {**MASKFORMER, **FIXED, **MASKED, "kernels": True}, task="semantic", num_classes=7, num_things=2
    )
    names, others = dict(model.named_parameters()), dict(other.named_parameters())
    changed = [name for name, value in names.items() if value.shape != others[name].shape]
    assert len(changed) == 5  # class head (2), two embeddings of queries, kernels
    assert all(name.startswith(model.class_layers) for name in changed)
    without = small_maskformer("semantic", **FIXED, **MASKED)
    assert not any("kernels" in name for name in without.state_dict())


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("instance", FIXED, "fixed is for task semantic"),
        ("semantic", {"matching": "fixed"}, "has a query for each class"),
        ("semantic", {"kernels": True}, "model.kernels is not a setting here"),
    ],
)
def test_options_for_semantic_maps_are_refused_where_they_have_no_meaning(task, settings, message):
    with pytest.raises(UsageError, match=message):
        small_maskformer(task, **settings)


def test_missing_labels_are_named():
    with pytest.raises(DataError, match="image 4 has no semantic labels"):
        small_maskformer("panoptic")(batch_of(stripes(4, semantic=False)))
    with pytest.raises(UsageError, match="does not do task 'keypoints'"):
        small_maskformer("keypoints")


@torch.no_grad()
def test_inspect_shows_masks_attention_and_matching():
    model = small_maskformer("instance").eval()
    out = model.inspect(batch_of(stripes(1), EMPTY))
    assert out["class_probabilities"].shape == (2, 8, 3)  # two things and no object
    assert out["mask_logits"].shape == (2, 8, 16, 24)
    attention = torch.stack(out["attention"])
    assert attention.shape == (2, 2, 8, 2, 3)
    torch.testing.assert_close(attention.sum((-1, -2)), torch.ones(2, 2, 8))
    (queries, objects), (none, _) = out["matching"]
    assert sorted(objects.tolist()) == [0, 1]
    assert len(set(queries.tolist())) == 2
    assert len(none) == 0


def test_official_names():
    names = {
        n
        for n in small_maskformer("panoptic", pixel_decoder="transformer").state_dict()
        if n.startswith("sem_seg_head")
    }
    pixel, predictor = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    expected = {f"{pixel}adapter_{i}{n}" for i in (1, 2, 3) for n in (".weight", ".norm.weight", ".norm.bias")}
    expected |= {f"{pixel}layer_{i}{n}" for i in (1, 2, 3, 4) for n in (".weight", ".norm.weight", ".norm.bias")}
    expected |= {f"{pixel}{m}.{n}" for m in ("mask_features", "input_proj") for n in ("weight", "bias")}
    for prefix, layers, norms, attention in (
        (f"{pixel}transformer.encoder.", 1, 2, ["self_attn"]),
        (f"{predictor}transformer.decoder.", 2, 3, ["self_attn", "multihead_attn"]),
    ):
        for i in range(layers):
            parts = [f"norm{k + 1}.{n}" for k in range(norms) for n in ("weight", "bias")]
            parts += [f"linear{k}.{n}" for k in (1, 2) for n in ("weight", "bias")]
            for a in attention:
                parts += [f"{a}.{n}" for n in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")]
            expected |= {f"{prefix}layers.{i}.{part}" for part in parts}
    expected |= {f"{predictor}transformer.decoder.norm.{n}" for n in ("weight", "bias")}
    expected |= {f"{predictor}class_embed.{n}" for n in ("weight", "bias")} | {f"{predictor}query_embed.weight"}
    expected |= {f"{predictor}mask_embed.layers.{i}.{n}" for i in (0, 1, 2) for n in ("weight", "bias")}
    assert names == expected
    plain = set(small_maskformer("panoptic").state_dict())
    assert f"{predictor}input_proj.weight" in plain
    assert not any("encoder" in n or f"{pixel}input_proj" in n for n in plain)


R50, R101 = {"name": "resnet", "depth": 50}, {"name": "resnet", "depth": 101}
R101C = {**R101, "stem": "3x3", "multi_grid": [1, 2, 4]}
SWIN = {v: {"name": "swin", "variant": v} for v in ("tiny", "small", "base", "large")}
PUBLISHED = [  # dataset, backbone, millions of parameters (exact), GFLOPs printed, crop
    ("ade", R50, 41.255, 53, 512),
    ("ade", R101, 60.195, 73, 512),
    ("ade", R101C, 60.318, 80, 512),
    ("ade", SWIN["tiny"], 41.757, 55, 512),
    ("ade", SWIN["small"], 63.075, 79, 512),
    ("ade", SWIN["base"], 101.829, 195, 640),
    ("ade", SWIN["large"], 211.576, 375, 640),
    ("coco", R50, 45, 181, None),
    ("coco", R101, 64, 248, None),
    ("coco", SWIN["tiny"], 42, 179, None),
    ("coco", SWIN["small"], 63, 259, None),
    ("coco", SWIN["base"], 102, 411, None),
    ("coco", SWIN["large"], 212, 792, None),
]


@pytest.mark.parametrize(("data", "backbone", "millions", "gflops", "crop"), PUBLISHED)
def test_published_cost(data, backbone, millions, gflops, crop, capsys):
    settings = {"name": "maskformer", "backbone": backbone}
    with torch.device("meta"):
        if data == "ade":
            model = build_model(settings, task="semantic", num_classes=150, num_things=0)
        else:
            decoder = "transformer" if backbone["name"] == "resnet" else "fpn"
            model = build_model({**settings, "pixel_decoder": decoder}, task="panoptic", num_classes=133, num_things=80)
    model.preprocess = model.preprocess.with_size((crop, 4 * crop) if crop else None)
    parameters, found = sum(p.numel() for p in model.parameters()) / 1e6, model.paper_gflops()
    with capsys.disabled():
        name = " ".join(str(v) for v in backbone.values())
        print(
            f"\n{data:5}{name:24}{parameters:9.3f} M ({millions}){found:8.1f} G ({gflops}) {found / gflops - 1:+.2%}",
            end="",
        )
    assert parameters == pytest.approx(millions, abs=5e-4 if data == "ade" else 0.5)
    assert found == pytest.approx(gflops, rel=0.015)
