"""Models of the library `transformers`: each that is offered learns and predicts, and is the library's own."""

import copy
import json
import math
import shutil
import sys

import numpy as np
import pytest
import tiny_checkpoints
import torch
import yaml
from batches import batch
from PIL import Image
from safetensors.torch import load_file
from tiny import TINY_RECIPE
from tiny_checkpoints import CONFIGS
from torch.utils.flop_counter import FlopCounterMode

import segcli
from segcli.compare.rows import run_row
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import ModelError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.checkpoint import initialise
from segcli.engine.cost import flops
from segcli.engine.opening import Opened
from segcli.engine.run_folder import RunFolder
from segcli.engine.session import Session
from segcli.explain.explain import available, look, views_named
from segcli.models import build_model, settled
from segcli.models.transformers.architectures import KINDS, SEGMENTS, TASKS_OF
from segcli.weights.transformers_checkpoint import classes_of

RTDETR, RFDETR = "RTDetrV2ForObjectDetection", "RfDetrForInstanceSegmentation"
MASK2FORMER, SEGFORMER = "Mask2FormerForUniversalSegmentation", "SegformerForSemanticSegmentation"
DETR, DPT = "DetrForObjectDetection", "DPTForSemanticSegmentation"
CASES = [(name, TASKS_OF[kind][-1]) for name, kind in KINDS.items()]
CASES += [(MASK2FORMER, task) for task in TASKS_OF[SEGMENTS][:-1]]


def model_of(folder, task, things=2):
    settings = {"name": "transformers", "checkpoint": str(folder)}
    return build_model(settings, task=task, num_classes=3, num_things=things)


def test_every_architecture_is_tried():
    assert set(KINDS) == set(CONFIGS)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_it_learns_from_every_batch_predicts_on_original_pixels_and_is_counted(checkpoint, name, task):
    torch.manual_seed(0)
    model = model_of(checkpoint(name), task).train()
    for counts in ((3, 1), (2, 0), (0, 0)):
        model.zero_grad(set_to_none=True)
        losses = model(batch(counts))
        assert all(value.ndim == 0 and math.isfinite(value.item()) for value in losses.values()), losses
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.inference_mode():
        found = model.eval().predict(batch((1, 1)))
        assert model.inspect(batch((1, 1)))
    assert [(p.size, p.image_id) for p in found] == [((123, 101), 7), ((70, 105), 8)]
    for prediction in found:
        if task == "semantic":
            assert prediction.semantic.shape == prediction.size
        elif task == "panoptic":
            assert prediction.panoptic.ids.shape == prediction.size
        else:
            boxes, (height, width) = prediction.instances.boxes, prediction.size
            assert (boxes >= 0).all()
            assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
            assert task == "detection" or all(tuple(r["size"]) == prediction.size for r in prediction.instances.rles())
    canvas = model.preprocess.stretch or (96, 96)
    counted = flops(model, canvas)
    assert counted["gflops"] == pytest.approx(torchs_count(model, canvas), rel=1e-9)
    assert counted["gflops"] > 0.001
    assert name.startswith(NO_PRODUCTS) or {"aten.bmm", "aten.baddbmm"} & set(counted["operators"])  # attention


# the trunk of UperNet here and MobileNetV2 have no attention; MobileViTV2's weighs and adds, without a matrix product
NO_PRODUCTS = ("UperNet", "MobileNetV2", "MobileViTV2")


def torchs_count(model, canvas):
    """GFLOPs by torch's own counter."""
    network = copy.deepcopy(model).to("meta").requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.network(torch.empty(1, 3, *canvas, device="meta"))
    return counter.get_total_flops() / 2e9


def info(*names):
    return DatasetInfo("d", tuple(Category(name, i + 1) for i, name in enumerate(names)), {})


def test_class_rows_are_taken_by_name_or_all_begin_anew(checkpoint, capsys):
    folder = checkpoint(RTDETR)
    source = model_of(folder, "detection", things=3)
    initialise(source, info("cat", "dog", "sky"))
    model = model_of(folder, "detection")
    initialise(model, info("Sky", "cat"))
    assert "class rows taken by name" in capsys.readouterr().err
    for key in ("class_embed.0.weight", "model.enc_score_head.bias", "model.denoising_class_embed.weight"):
        given, taken = source.net.state_dict()[key], model.net.state_dict()[key]
        assert torch.equal(taken[:2], given[[2, 0]])
        assert len(taken) == 2 or torch.equal(taken[2], given[3])  # the padding of denoising
    trunk = "model.backbone.model.embedder.embedder.0.convolution.weight"
    assert torch.equal(model.net.state_dict()[trunk], source.net.state_dict()[trunk])
    other = model_of(folder, "detection")
    before = other.net.state_dict()["class_embed.0.weight"].clone()
    initialise(other, info("cat", "horse"))
    assert "begin anew" in capsys.readouterr().err
    assert torch.equal(other.net.state_dict()["class_embed.0.weight"], before)
    with pytest.raises(ModelError, match="other classes"):
        initialise(other, info("cat", "horse"), partial=False)


def test_images_become_what_the_librarys_processor_makes_of_them(checkpoint):
    image = np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)
    for name, task in ((RTDETR, "detection"), (DETR, "detection"), (DPT, "semantic")):
        model = model_of(checkpoint(name), task)
        expected = model.processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
        found = model.preprocess.image(image)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 0.03  # a level of 255, rounded otherwise


@pytest.fixture(scope="module")
def trained_run(checkpoint, tiny_dataset, tmp_path_factory):
    """A folder for a run of two steps, layers that begin anew first, and its checkpoint."""
    folder = tmp_path_factory.mktemp("transformers run")
    tiny_checkpoints.save(RTDETR, folder / "checkpoint", names={0: "cat", 1: "horse"})
    model = {"name": "transformers", "checkpoint": str(folder / "checkpoint")}
    data = {**TINY_RECIPE["data"], "root": str(tiny_dataset), "size": None}
    settings = {**TINY_RECIPE, "task": "detection", "data": data, "model": model}
    tuning = {"optimizer": {"layer_decay": 0.5}, "schedule": {"new_layers_first": 1}}
    settings["train"] = {**settings["train"], "steps": 2, "ema": 0.9, **tuning}
    return Recipe.parse(settings, "tiny"), folder


def test_a_run_resumes_bitwise_and_opens_without_its_checkpoint(trained_run, monkeypatch):
    recipe, folder = trained_run
    often = recipe.model_copy(update={"train": recipe.train.model_copy(update={"save_minutes": 1e-9})})
    whole = segcli.train(recipe, out=folder / "whole", quiet=True)
    original = Session.save

    def save_and_stop(session):
        original(session)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            segcli.train(often, out=folder / "halves", quiet=True)
    shutil.rmtree(folder / "checkpoint")
    segcli.train(None, resume=folder / "halves", quiet=True)
    first, second = (torch.load(RunFolder(run).last, weights_only=True) for run in (whole, folder / "halves"))
    for key, value in first["model"].items():
        assert torch.equal(value, second["model"][key]), key
    assert any("class_embed" in key for key in RunFolder(whole).environment()["new_layers"])
    settled = RunFolder(whole).recipe().train.optimizer
    assert (settled.lr, settled.backbone_lr, settled.layer_decay) == (1e-4, pytest.approx(1e-5), 0.5)
    assert "bbox_AP" in segcli.evaluate(folder / "halves", split="val")
    assert run_row(whole).model == "RT-DETRv2 (transformers)"


def test_a_recipe_predicts_with_the_classes_of_its_checkpoint(checkpoint, segcli, tmp_path):
    model = {"name": "transformers", "checkpoint": str(checkpoint(RTDETR))}
    recipe = {"name": "x", "task": "detection", "data": {"root": "none"}, "model": model, "train": {"steps": 1}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    Image.new("RGB", (60, 40)).save(tmp_path / "photo.png")
    result = segcli("predict", "r.yaml", "photo.png", "--out", "out", "--score", 0, "--json")
    assert result.code == 0, result.err
    assert "cat" in result.out + (tmp_path / "out" / "predictions.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "task", "views"),
    [
        (RTDETR, "detection", {"query_scores", "duplicates", "sampling_points", "self_attention"}),
        (DETR, "detection", {"query_scores", "duplicates", "query_attention", "self_attention"}),
        (MASK2FORMER, "panoptic", {"query_scores", "query_masks", "query_attention"}),
        (SEGFORMER, "semantic", {"class_maps", "entropy", "self_attention"}),
    ],
)
def test_its_views_are_drawn(checkpoint, name, task, views):
    model = {"name": "transformers", "checkpoint": str(checkpoint(name))}
    settings = {"name": "x", "task": task, "data": {"root": "none"}, "model": model, "train": {"steps": 1}}
    classes = DatasetInfo("d", (Category("cat", 1), Category("dog", 2), Category("sky", 3, thing=False)), {})
    opened = Opened(model_of(checkpoint(name), task).eval(), Recipe.parse(settings, "test"), classes, None)
    scene = look(opened, np.full((70, 110, 3), 90, np.uint8), None, 0.5)
    found = available(scene, views_named(()), named=False)
    assert found.keys() == views
    for view in found.values():
        assert view.shown(scene).pictures


def test_placeholders_of_unused_ids_keep_their_rows(tmp_path):
    folder = str(tiny_checkpoints.save(RTDETR, tmp_path / "c", names={0: "N/A", 1: "cat", 2: "N/A"}))
    own = classes_of(folder, stuff=False, things=True)
    assert own.names == ["N/A", "cat", "N/A 2"]
    model = model_of(folder, "detection", things=3)
    initialise(model, own, partial=False)
    stored = load_file(tmp_path / "c" / "model.safetensors")["model.enc_score_head.bias"]
    assert torch.equal(model.net.state_dict()["model.enc_score_head.bias"], stored)


def test_a_kernel_that_a_configuration_names_is_never_loaded(checkpoint, tmp_path):
    """It would be code of the hub."""
    folder = checkpoint(RTDETR)
    part = json.loads((folder / "config.json").read_text())["backbone_config"]
    named = {"attn_implementation": "OWNER/kernel"}
    copy = edited(folder, tmp_path, **named, backbone_config={**part, **named})
    model = model_of(copy, "detection")
    initialise(model, info("cat", "dog"))
    for config in (model.net.config, model.net.config.backbone_config):
        assert config._attn_implementation in (None, "sdpa", "eager")


def test_a_recipe_without_a_checkpoint_is_left_to_build():
    assert settled({"name": "transformers"}) == {"name": "transformers"}


def edited(folder, tmp_path, **changes):
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = {**json.loads((copy / "config.json").read_text()), **changes}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_what_cannot_be_a_model_is_refused_in_one_sentence(checkpoint, tmp_path, monkeypatch):
    folder = checkpoint(RTDETR)
    with pytest.raises(UsageError, match=r"RTDetrV2ForObjectDetection does not do task 'semantic'"):
        model_of(folder, "semantic")
    copy = edited(folder, tmp_path, architectures=["RTDetrV3ForObjectDetection"])
    with pytest.raises(ModelError, match="not one of the supported") as caught:
        model_of(copy, "detection")
    assert "RTDetrV2ForObjectDetection" in caught.value.hint
    shutil.rmtree(copy)
    copy = edited(folder, tmp_path, auto_map={"AutoModel": "code.py"})
    with pytest.raises(ModelError, match="code of its own"):
        model_of(copy, "detection")
    shutil.rmtree(copy)
    copy = edited(folder, tmp_path)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="half a download"):
        initialise(model_of(copy, "detection"), info("cat", "dog"))
    weights.rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        initialise(model_of(copy, "detection"), info("cat", "dog"))
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"no preprocessor_config\.json"):
        model_of(copy, "detection")
    with pytest.raises(ModelError, match="no such folder"):
        model_of(tmp_path / "absent", "detection")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match="needs the package transformers") as caught:
        model_of(folder, "detection")
    assert "pip install 'segcli[transformers]'" in caught.value.hint


def test_a_broken_installation_is_one_sentence(checkpoint, tmp_path, monkeypatch):
    folder = checkpoint(RTDETR)
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("from numpy import no_such_thing")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "transformers")
    with pytest.raises(ModelError, match=r"transformers can't be imported: ImportError: .*no_such_thing") as caught:
        model_of(folder, "detection")
    assert "--force-reinstall" in caught.value.hint


def test_a_part_of_the_library_that_cannot_be_imported_is_one_sentence(checkpoint, monkeypatch):
    folder = checkpoint(RTDETR)
    part = "transformers.models.rt_detr_v2.configuration_rt_detr_v2"

    def broken(*_, **__):
        raise ModuleNotFoundError(f"No module named {part!r}")

    monkeypatch.setattr(f"{part}.RTDetrV2Config.from_dict", broken)
    with pytest.raises(ModelError, match=r"can't be imported: ModuleNotFoundError: .*rt_detr_v2"):
        model_of(folder, "detection")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_queries": "many"}, r"config\.json makes no RTDetrV2ForObjectDetection: .*num_queries.*int"),
        ({"backbone_config": {"model_type": "nonsense"}}, "'nonsense' is not known"),
        ({"architectures": []}, "names no architecture"),
    ],
)
def test_a_configuration_that_makes_no_model_is_one_sentence(checkpoint, tmp_path, changes, said):
    with pytest.raises(ModelError, match=said):
        model_of(edited(checkpoint(RTDETR), tmp_path, **changes), "detection")


def test_tensors_of_another_shape_are_one_sentence(checkpoint, tmp_path, capfd):
    copy = edited(checkpoint(RTDETR), tmp_path, decoder_ffn_dim=48)
    with pytest.raises(ModelError, match=r"not those of its config\.json: \d+ of another shape \(model\.decoder"):
        initialise(model_of(copy, "detection"), info("cat", "dog"))
    assert "MISMATCH" not in "".join(capfd.readouterr())  # the library's own table of them


def test_a_network_that_breaks_off_is_one_sentence(monkeypatch):
    import huggingface_hub

    def broken(*_, **__):
        raise ConnectionError("the connection\nbroke off")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(ModelError, match="OWNER/NAME can't be loaded from the hub: the connection broke off"):
        model_of("OWNER/NAME", "detection")


def test_every_setting_does_something(checkpoint):
    """checkpoint, and the two that stand for its files."""
    model = model_of(checkpoint(RTDETR), "detection")
    files = model._files
    other = {**files.config, "num_queries": 7}
    rule = {**files.processor, "size": {"height": 64, "width": 64}}
    given = {"name": "transformers", "checkpoint": str(checkpoint(RTDETR)), "config": other, "processor": rule}
    changed = build_model(given, task="detection", num_classes=3, num_things=2)
    assert (model.queries, changed.queries) == (10, 7)
    assert (model.preprocess.stretch, changed.preprocess.stretch) == ((96, 96), (64, 64))
