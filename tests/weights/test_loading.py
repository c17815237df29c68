"""Loading weights into models: every key accounted for, classes by name, nothing dropped in silence."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2_names import to_detectron2
from torch import Tensor, nn

import segcli
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, ModelError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.checkpoint import load_strict, load_weights, save_weights
from segcli.engine.opening import open_model, start
from segcli.models import build_model
from segcli.weights import official
from segcli.weights.class_rows import layouts, official_info

TRUNK = {"name": "timm", "model": "test_resnet"}  # half a million parameters
RESNET = {"name": "resnet", "depth": 18}
BOX = {"box": {"width": 24}}
MASK = {**BOX, "mask": {"width": 16, "convolutions": 1}}


def rcnn(things: int, heads: dict[str, Any] = MASK, **settings: Any) -> Any:
    return build(
        {"name": "rcnn", "backbone": TRUNK, "width": 16, "heads": heads, **settings},
        "instance" if "mask" in heads else "detection",
        things,
        things,
    )


def detr(task: str, classes: int, things: int, dim: int = 128, backbone: dict[str, Any] = TRUNK) -> Any:
    small = {"dim": dim, "heads": 8, "encoder_layers": 1, "decoder_layers": 1, "ffn": 16}
    return build({"name": "detr", "backbone": backbone, "queries": 5, "transformer": small}, task, classes, things)


def maskformer(classes: int, things: int, backbone: dict[str, Any] = TRUNK) -> Any:
    settings = {"name": "maskformer", "backbone": backbone, "transformer": {"decoder_layers": 1}, "queries": 5}
    return build(settings, "panoptic", classes, things)


def build(settings: dict[str, Any], task: str, classes: int, things: int) -> Any:
    """With every number of every tensor different from all others of its kind."""
    torch.manual_seed(classes)
    model = build_model(settings, task=task, num_classes=classes, num_things=things)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape))
    return model


def info_of(things: list[str], stuff: list[str] | None = None) -> DatasetInfo:
    categories = [Category(name, i) for i, name in enumerate(things)]
    categories += [Category(name, 1000 + i, thing=False) for i, name in enumerate(stuff or [])]
    return DatasetInfo("test", tuple(categories), {"train": 1})


def write(path: Path, state: dict[str, Tensor], **wrapped: Any) -> Path:
    torch.save({**wrapped, "model": state} if wrapped else state, path)
    return path


def as_torchvision(model: nn.Module) -> dict[str, Tensor]:
    return {
        key.replace("heads.box.", "box_").replace("heads.mask.", "mask_"): value
        for key, value in model.state_dict().items()
    }


def same(model: nn.Module, other: nn.Module, but: tuple[str, ...] = ()) -> bool:
    other_state = other.state_dict()
    return all(torch.equal(v, other_state[k]) for k, v in model.state_dict().items() if not k.startswith(but or ("-",)))


class TestStrictness:
    def test_weights_of_another_architecture_list_what_differs_and_change_nothing(self, tmp_path):
        model = rcnn(2)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        file = write(tmp_path / "detr.pth", detr("detection", 2, 2).state_dict())
        with pytest.raises(ModelError, match=r"detr\.pth: weights of another model: \d+ missing \(backbone") as caught:
            load_weights(model, file)
        assert "unexpected (transformer.encoder.layers.0" in str(caught.value)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    def test_weights_of_another_variant_name_the_shapes(self, tmp_path):
        file = write(tmp_path / "a.pth", rcnn(2, width=32).state_dict())
        with pytest.raises(
            ModelError, match=r"of another shape \(backbone.fpn.\S+ \[32, 32, 1, 1\] for \[16, 32, 1, 1\]"
        ):
            load_weights(rcnn(2), file)

    @pytest.mark.parametrize("change", ["drop", "add"])
    def test_one_key_too_few_or_too_many(self, tmp_path, change):
        state = rcnn(2).state_dict()
        if change == "drop":
            del state["rpn.head.cls_logits.bias"]
        else:
            state["rpn.head.extra"] = torch.ones(1)
        name = {"drop": "1 missing (rpn.head.cls_logits.bias)", "add": "1 unexpected (rpn.head.extra)"}[change]
        with pytest.raises(ModelError) as caught:
            load_weights(rcnn(2), write(tmp_path / "a.pth", state))
        assert name in str(caught.value)
        with pytest.raises(ModelError):
            load_strict(rcnn(2), state, "a.pth")

    def test_half_a_head_is_not_a_head(self, tmp_path):
        state = rcnn(2).state_dict()
        del state["roi_heads.heads.mask.predictor.conv5_mask.bias"]
        with pytest.raises(ModelError, match="1 missing"):
            load_weights(rcnn(2), write(tmp_path / "a.pth", state))

    def test_an_unknown_source(self, tmp_path):
        with pytest.raises(UsageError, match="no weight source 'torchvison'") as caught:
            load_weights(rcnn(2), write(tmp_path / "a.pth", rcnn(2).state_dict()), source="torchvison")
        assert "torchvision" in caught.value.hint

    def test_a_trunk_is_no_model(self):
        with pytest.raises(ModelError, match="weights of a backbone alone") as caught:
            load_weights(rcnn(2), "torchvision/resnet50")
        assert "model.backbone.weights" in caught.value.hint


class TestHeads:
    def test_a_head_that_the_file_lacks_begins_at_random_and_is_named(self, tmp_path, capsys):
        source, model = rcnn(2, BOX), rcnn(2)
        file = write(tmp_path / "faster.pth", source.state_dict())
        report = segcli.load_weights(model, file)
        assert "not in the file, begin at random: roi_heads.heads.mask" in capsys.readouterr().err
        assert report["missing"] == [k for k in model.state_dict() if ".mask." in k]
        assert same(source, model)
        with pytest.raises(ModelError, match="begin at random"):
            load_weights(model, file, partial=False)

    def test_a_head_that_the_model_lacks_is_left_out_and_is_named(self, tmp_path, capsys):
        source, model = rcnn(2), rcnn(2, BOX)
        report = load_weights(model, write(tmp_path / "mask.pth", source.state_dict()), partial=False)
        assert "not in this model, left out: roi_heads.heads.mask" in capsys.readouterr().err
        assert all(".mask." in key for key in report["unexpected"])
        assert same(model, source)

    def test_a_box_detr_is_the_first_stage_of_one_with_masks(self, tmp_path, capsys):
        boxes, model = detr("detection", 3, 3), detr("instance", 3, 3)
        report = load_weights(model, write(tmp_path / "boxes.pth", boxes.state_dict()))
        assert same(boxes, model.detr)
        assert {key.split(".")[0] for key in report["missing"]} == {"bbox_attention", "mask_head"}
        assert "begin at random: bbox_attention, mask_head" in capsys.readouterr().err
        nn.init.zeros_(boxes.class_embed.weight)
        load_weights(boxes, write(tmp_path / "masks.pth", model.state_dict()), partial=False)
        assert same(boxes, model.detr)
        with pytest.raises(ModelError, match="of another shape"):
            load_weights(model, write(tmp_path / "narrow.pth", detr("detection", 3, 3, dim=64).state_dict()))


class TestClasses:
    def test_another_number_of_classes_begins_anew_and_says_so(self, tmp_path, capsys):
        source, model = rcnn(5), rcnn(2)
        fresh = {k: v.clone() for k, v in model.state_dict().items()}
        file = write(tmp_path / "five.pth", source.state_dict())
        report = load_weights(model, file)
        said = capsys.readouterr().err
        assert said.startswith("note: ")
        for layer in ("box.predictor.cls_score", "box.predictor.bbox_pred", "mask.predictor.mask_fcn_logits"):
            assert layer in said
        again = {f"roi_heads.heads.{layer}" for layer in ("box.predictor", "mask.predictor.mask_fcn_logits")}
        assert all(key.startswith(tuple(again)) for key in report["reinitialised"])
        assert len(report["reinitialised"]) == 6
        assert all(torch.equal(model.state_dict()[key], fresh[key]) for key in report["reinitialised"])
        assert same(model, source, but=tuple(again))
        with pytest.raises(ModelError, match="another number of classes"):
            load_weights(model, file, partial=False)

    @pytest.mark.parametrize("family", ["lite", "detr", "maskformer", "fcn", "per_pixel", "per_pixel_plus"])
    def test_every_family_declares_its_class_layers(self, tmp_path, family):
        def of(classes: int) -> Any:
            if family == "lite":
                lite = {"backbone": {"name": "efficientnet_lite0"}, "heads": {"iou_box": {}, "lite_mask": {}}}
                return build({"name": "rcnn_lite", **lite}, "instance", classes, classes)
            if family == "detr":
                return detr("panoptic", classes, 2)
            if family == "maskformer":
                return maskformer(classes, 2)
            settings = {"name": family}
            if family == "fcn":
                settings["backbone"] = {"depth": 18, "dilate_last": 0}
            else:
                settings["backbone"] = TRUNK
            return build(settings, "semantic", classes, 0)

        source, model = of(7), of(4)
        report = load_weights(model, write(tmp_path / "a.pth", source.state_dict()))
        assert report["reinitialised"]
        assert not report["missing"] + report["unexpected"]
        assert {model.state_dict()[key].shape[0] for key in report["reinitialised"]} <= {4, 5}

    def test_cocos_official_boxes_and_masks_go_to_the_classes_of_the_same_names(self, tmp_path, capsys):
        """91 slots by COCO id, background first, for 80 classes in another order."""
        source = rcnn(90)
        rows = layouts()[("torchvision", 91)]
        names = [name for name in rows if name][::-1]
        model = rcnn(80)
        file = write(tmp_path / "coco.pth", as_torchvision(source))
        report = load_weights(model, file, info=info_of(names), partial=False)
        assert "class rows taken by name" in capsys.readouterr().err
        assert len(report["selected"]) == 6
        official, own = source.roi_heads.heads, model.roi_heads.heads
        for label, name in enumerate(names):
            row, id_ = label + 1, rows[name]
            assert torch.equal(own.box.predictor.cls_score.weight[row], official.box.predictor.cls_score.weight[id_])
            deltas = official.box.predictor.bbox_pred.weight[4 * id_ : 4 * id_ + 4]
            assert torch.equal(own.box.predictor.bbox_pred.weight[4 * row : 4 * row + 4], deltas)
            logits = official.mask.predictor.mask_fcn_logits.bias
            assert own.mask.predictor.mask_fcn_logits.bias[row] == logits[id_]
        assert rows["person"] == 1
        assert rows["toothbrush"] == 90
        assert own.box.predictor.cls_score.bias[0] == official.box.predictor.cls_score.bias[0]
        assert same(model, source, but=("roi_heads.heads.box.predictor", "roi_heads.heads.mask.predictor.mask_fcn"))

    def test_a_few_of_cocos_classes_keep_their_rows_and_unknown_ones_begin_anew(self, tmp_path):
        source, model = rcnn(90), rcnn(2)
        file = write(tmp_path / "coco.pth", as_torchvision(source))
        load_weights(model, file, info=info_of(["Person", "zebra"]), partial=False)
        bias, official = model.roi_heads.heads.box.predictor.cls_score.bias, layouts()[("torchvision", 91)]
        wanted = source.roi_heads.heads.box.predictor.cls_score.bias[[0, official["person"], official["zebra"]]]
        assert torch.equal(bias, wanted)
        report = load_weights(rcnn(2), file, info=info_of(["person", "gripper"]))
        assert not report["selected"]
        assert len(report["reinitialised"]) == 6
        assert len(load_weights(rcnn(2), file)["reinitialised"]) == 6  # nothing is known of the classes

    def test_detrs_official_classes(self, tmp_path):
        """92 slots by COCO id, "no object" last; the file's keys are ours."""
        source, model = detr("detection", 91, 91), detr("detection", 3, 2)
        file = write(tmp_path / "detr.pth", source.state_dict(), epoch=3)
        load_weights(model, file, info=info_of(["cat", "dog"], ["lawn"]), partial=False)
        assert torch.equal(model.class_embed.bias, source.class_embed.bias[[17, 18, 91]])

    def test_maskformers_official_panoptic_classes_in_detectron2s_file(self, tmp_path):
        """133 in COCO's order and "no object"; things and stuff; the first release's names."""
        source, model = maskformer(133, 80, RESNET), maskformer(3, 2, RESNET)
        trunk = {k.removeprefix("backbone."): v for k, v in source.state_dict().items() if k.startswith("backbone.")}
        arrays = {f"backbone.{k}": v for k, v in to_detectron2(trunk).items()}
        arrays |= {
            key.replace("sem_seg_head.pixel_decoder.", "sem_seg_head."): value
            for key, value in source.state_dict().items()
            if key.startswith("sem_seg_head.")
        }
        arrays |= {"criterion.empty_weight": torch.ones(134), "pixel_mean": torch.ones(3, 1, 1)}
        file = tmp_path / "model_final_abcdef.pkl"
        file.write_bytes(pickle.dumps({"model": {k: v.numpy() for k, v in arrays.items()}, "__author__": "x"}))
        report = load_weights(model, file, info=info_of(["bicycle", "person"], ["rug-merged"]), partial=False)
        assert report["ignored"] == ["pixel_mean"]
        mine, official = (m.sem_seg_head.predictor.class_embed.bias for m in (model, source))
        assert torch.equal(mine, official[[1, 0, 132, 133]])
        assert same(model, source, but=("sem_seg_head.predictor.class_embed",))

    def test_our_own_weights_are_never_reordered(self, tmp_path):
        """134 rows of a model trained here are in its own dataset's order."""
        source, model = maskformer(133, 80), maskformer(133, 80)
        names = [name for name in layouts()[("maskformer", 134)] if name]
        things, stuff = names[:80][::-1], names[80:]
        save_weights(tmp_path / "a.safetensors", source.state_dict(), {})
        report = load_weights(model, tmp_path / "a.safetensors", info=info_of(things, stuff))
        assert not report["selected"]
        assert same(model, source)


def test_frozen_norms_made_with_another_eps_are_pointed_out(tmp_path, capsys):
    file = write(tmp_path / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", as_torchvision(rcnn(3, backbone=RESNET)))
    load_weights(rcnn(3, backbone=RESNET), file)
    assert "norm_eps: 0.0" in capsys.readouterr().err
    load_weights(rcnn(3, backbone={**RESNET, "norm_eps": 0.0}), file)
    assert capsys.readouterr().err == ""


def test_torchvisions_files_of_2019(tmp_path):
    """They name four kinds of layers differently."""
    source, model = rcnn(3), rcnn(3)
    nn.init.zeros_(model.rpn.head.conv[0][0].weight)
    old = {}
    for key, value in as_torchvision(source).items():
        key = key.replace("_blocks.0.0.", "_blocks.0.").replace("_blocks.1.0.", "_blocks.1.")
        key = key.replace("_blocks.2.0.", "_blocks.2.").replace("_blocks.3.0.", "_blocks.3.")
        key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        old[key.replace("mask_head.0.0.", "mask_head.mask_fcn1.")] = value
    assert "rpn.head.conv.weight" in old
    assert "roi_heads.mask_head.mask_fcn1.weight" in old
    load_weights(model, write(tmp_path / "old.pth", old), partial=False)
    assert same(model, source)


@pytest.mark.parametrize("layout", [4, 5])
def test_transformers_detr_in_both_of_its_layouts(tmp_path, layout):
    transformers = pytest.importorskip("transformers", reason="its key layout is read from itself")
    config = transformers.DetrConfig(
        backbone="resnet18",
        use_pretrained_backbone=False,
        num_labels=91,
        num_queries=5,
        d_model=128,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
    )
    theirs = transformers.DetrForObjectDetection(config)
    state = dict(theirs.state_dict())
    if layout == 4:
        state = {
            k.replace("backbone.model.", "backbone.conv_encoder.model.")
            .replace("o_proj", "out_proj")
            .replace("mlp.", ""): v
            for k, v in state.items()
        }
    save_weights(tmp_path / "model.safetensors", {k: v.clone() for k, v in state.items()}, {"format": "pt"})
    model = detr("detection", 80, 80, backbone=RESNET)
    names = [name for name in layouts()[("detr", 92)] if name]
    load_weights(model, tmp_path / "model.safetensors", info=info_of(names), partial=False)
    assert torch.equal(model.class_embed.bias[79], theirs.class_labels_classifier.bias[90])
    assert torch.equal(model.query_embed.weight, theirs.model.query_position_embeddings.weight)
    assert np.isclose(model.backbone[0].body.conv1.weight.sum().item(), state_sum(state, "conv1.weight"), atol=1e-4)


def state_sum(state: dict[str, Tensor], end: str) -> float:
    return next(v for k, v in state.items() if k.endswith(f"model.{end}")).sum().item()


def small_recipe(root: Path, init: str | None) -> Recipe:
    model = {"name": "rcnn", "backbone": TRUNK, "width": 16, "heads": MASK}
    data = {"root": str(root), "size": 64}
    plain = {"name": "x", "task": "instance", "data": data, "model": model, "init": init}
    return Recipe.parse({**plain, "hardware": {"device": "cpu"}}, "x.yaml", root.parent / "x.yaml")


def test_a_recipes_init_is_found_beside_it_loaded_and_recorded(tmp_path, tiny_copy, capsys):
    source = rcnn(5)
    write(tmp_path / "five classes.pth", source.state_dict())
    model, used = start(small_recipe(tiny_copy, "five classes.pth"), DatasetInfo.load(tiny_copy))
    assert used == [{"source": "five classes.pth", "licence": "unknown"}]
    assert same(source.rpn, model.rpn)
    assert "another number of classes" in capsys.readouterr().err


def test_an_official_checkpoint_is_recorded_with_its_licence(tmp_path, tiny_copy, monkeypatch):
    source = as_torchvision(rcnn(90))
    write(tmp_path / "coco.pth", source)
    monkeypatch.setattr(official, "fetch", lambda *_, **__: tmp_path / "coco.pth")
    name = "torchvision/maskrcnn_resnet50_fpn"
    model, used = start(small_recipe(tiny_copy, name), DatasetInfo.load(tiny_copy))
    assert used == [{"source": name, "licence": "BSD-3-Clause"}]
    rows = [0, 17, 18]  # background, cat, dog: the dataset's classes by COCO's ids
    bias = source["roi_heads.box_predictor.cls_score.bias"][rows]
    assert torch.equal(model.roi_heads.heads.box.predictor.cls_score.bias, bias)


def test_a_recipe_opens_with_weights_that_leave_nothing_at_random(tmp_path, tiny_copy):
    recipe = small_recipe(tiny_copy, None)
    (tmp_path / "x.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    two = write(tmp_path / "two.pth", rcnn(2).state_dict())
    opened = open_model(tmp_path / "x.yaml", weights=str(two))
    assert same(rcnn(2), opened.model)
    five = write(tmp_path / "five.pth", rcnn(5).state_dict())
    with pytest.raises(ModelError, match="another number of classes"):
        open_model(tmp_path / "x.yaml", weights=str(five))
    with pytest.raises(ModelError, match="names no weights"):
        open_model(tmp_path / "x.yaml")


def test_official_weights_predict_without_their_dataset(tmp_path, monkeypatch):
    """A recipe with `init` opens with COCO's 80 classes though COCO was never prepared here."""
    source = as_torchvision(rcnn(90))
    write(tmp_path / "coco.pth", source)
    monkeypatch.setattr(official, "fetch", lambda *_, **__: tmp_path / "coco.pth")
    recipe = small_recipe(tmp_path / "not prepared", "torchvision/maskrcnn_resnet50_fpn")
    (tmp_path / "x.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    opened = open_model(tmp_path / "x.yaml")
    assert (opened.info.num_things, len(opened.info.names)) == (80, 80)
    assert (opened.info.names[0], opened.info.names[79]) == ("person", "toothbrush")
    assert opened.info.source_ids[79] == 90
    bias = opened.model.roi_heads.heads.box.predictor.cls_score.bias
    assert torch.equal(bias[[1, 80]], source["roi_heads.box_predictor.cls_score.bias"][[1, 90]])
    with pytest.raises(DataError, match="not a prepared dataset"):
        open_model(tmp_path / "x.yaml", weights=str(tmp_path / "coco.pth"))


def test_the_classes_of_official_weights():
    coco, panoptic, voc = (official_info(name) for name in ("coco", "coco_panoptic", "voc"))
    assert coco.names == panoptic.names[:80]
    assert (panoptic.num_things, len(panoptic.names)) == (80, 133)
    assert (panoptic.names[80], panoptic.source_ids[132]) == ("banner", 200)
    assert (voc.num_things, voc.names[0], voc.names[15], len(voc.names)) == (0, "background", "person", 21)
    assert {c.classes for c in official.TABLE.values()} == {"coco", "coco_panoptic", "coco_person", "voc", None}
