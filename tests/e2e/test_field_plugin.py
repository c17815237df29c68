"""A field of another package with side files and declarations, through every command that meets labels."""

import importlib
import json
import shutil

import pytest
import yaml
from mark_plugin import ENTRY_POINTS, Mark
from tiny import TINY_RECIPE

from segcli import fields
from segcli.commands.prepare import diagnose, export, prepare
from segcli.commands.samples import open_richest
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.data.cache import SampleCache
from segcli.data.dataset import Dataset
from segcli.drawing.overlays import draw


@pytest.fixture
def with_plugin(tmp_path, monkeypatch):
    installed = tmp_path / "site" / "segcli_mark-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: segcli-mark\nVersion: 1.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(installed.parent)
    importlib.invalidate_caches()
    caches = (fields.field, fields.by_key)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def source(tiny_dataset, tmp_path):
    """The tiny dataset as a COCO source: image 1's first object is marked 7, all of image 6's are marked 3."""
    raw = tmp_path / "raw"
    shutil.copytree(tiny_dataset / "images", raw / "images")
    (raw / "marks").mkdir()
    for value in (3, 7):
        (raw / "marks" / f"{value}.txt").write_text(str(value), encoding="utf-8")
    for split in ("train", "val"):
        data = json.loads((tiny_dataset / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
        for annotation in data["annotations"]:
            if annotation["id"] in (101, 109):
                annotation["mark"] = "marks/7.txt" if annotation["id"] == 101 else "marks/3.txt"
        data |= {"files": ["marks/3.txt", "marks/7.txt"], "declared": {"mark": {"strength": 0.5}}}
        (raw / f"{split}.json").write_text(json.dumps(data), encoding="utf-8")
    return raw


def marks(root, split):
    dataset = open_richest(root, DatasetInfo.load(root), split)
    read = [dataset.target(i).instances.fields["mark"] for i in range(len(dataset))]
    assert [one.size for one in read] == dataset.sizes
    return [value for one in read for value in one.value.tolist() if value == value]


def test_what_is_declared_and_lies_beside_goes_through_prepare_and_back(with_plugin, source, tmp_path):
    root = prepare(source, tmp_path / "data")
    assert DatasetInfo.load(root).declared == {"mark": {"strength": 0.5}}
    assert (marks(root, "train"), marks(root, "val")) == ([7], [3])
    dataset = open_richest(root, DatasetInfo.load(root), "train")
    drawn = draw(dataset.image(0), dataset.target(0), dataset.info)
    assert (drawn == (1, 2, 3)).all(-1).any()
    assert diagnose(str(root)).self_test["train/mark_accuracy"] == 1  # pictures and self-test know it without a model
    export(str(root), "coco", tmp_path / "out")
    again = prepare(tmp_path / "out", tmp_path / "again")
    assert DatasetInfo.load(again).declared == {"mark": {"strength": 0.5}}
    assert marks(prepare(again, tmp_path / "fixed", fix=True), "val") == [3]


def test_a_run_stores_side_files_and_reads_them_back(with_plugin, source, segcli, tmp_path):
    prepare(source, tmp_path / "data" / "tiny")
    model = {"name": "rcnn", "backbone": {"name": "resnet", "depth": 18}}
    model |= {"heads": {"box": {"width": 16, "score": 0.0}, "mark": {}}, "width": 16, "proposals": [8, 8]}
    recipe = {**TINY_RECIPE, "task": "detection", "model": model, "train": {"steps": 1, "batch_size": 2}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    trained = segcli("train", "r.yaml", "--set", "hardware.workers=0")
    assert trained.code == 0, trained.err
    run = tmp_path / "runs" / "tiny run"
    found = json.loads((run / "predictions" / "val.json").read_text(encoding="utf-8"))
    assert found
    assert all((run / "predictions" / "val_files" / entry["mark"]).is_file() for entry in found)
    assert segcli("visualize", "predictions", run).code == 0  # reads them back
    assert segcli("predict", run, "raw/images", "--score", "0", "--out", "out").code == 0
    listed = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))["annotations"]
    assert all((tmp_path / "out" / "predictions_files" / entry["mark"]).is_file() for entry in listed)
    assert (
        segcli("predict", run, "raw/images", "--score", "0", "--out", "out", "--force").code == 0
    )  # its own files are replaced
    (tmp_path / "data/tiny/files/marks/3.txt").unlink()
    refused = segcli("train", "r.yaml", "--set", "hardware.workers=0")
    assert refused.code == 3
    assert "annotation 109: there is no file marks/3.txt in an image of (48, 64)" in refused.err.replace("\n", " ")


def test_what_no_one_can_score_or_cut_is_refused_before_any_work(with_plugin, source, tmp_path, monkeypatch, segcli):
    with pytest.raises(UsageError, match="mark of annotation 101 can't be cut"):
        prepare(source, tmp_path / "tiles", tile=32)
    data = json.loads((source / "val.json").read_text(encoding="utf-8"))
    for files, said in ((["marks/8.txt"], "'marks/8.txt' is not in"), (["../x"], "not a path below")):
        (source / "val.json").write_text(json.dumps({**data, "files": files}), encoding="utf-8")
        with pytest.raises(DataError, match=said):
            prepare(source, tmp_path / "data")


def test_a_score_that_no_plugin_gives_is_missed_before_the_training(with_plugin, source, segcli, tmp_path, monkeypatch):
    prepare(source, tmp_path / "data" / "tiny")
    model = {"name": "rcnn", "backbone": {"name": "resnet", "depth": 18}, "heads": {"box": {}, "mark": {}}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**TINY_RECIPE, "task": "detection", "model": model}))
    monkeypatch.setattr("mark_plugin.MarkHead.metric", "marks")
    for more in ([], ["--dry-run"]):
        refused = segcli("train", "r.yaml", *more)
        assert refused.code == 2
        assert "no metric is called 'marks'" in refused.err
    assert not (tmp_path / "runs").exists()


def test_the_cache_counts_what_fields_hold(with_plugin, tiny_dataset):
    class Large(Mark):
        @classmethod
        def read(cls, annotations, origin):
            import torch

            out = cls(torch.zeros(len(annotations)), origin.size)
            out.maps = [torch.zeros(1000, 1000)]
            return out

    dataset = Dataset(tiny_dataset, "val", fields={"mark": Large})
    cache = SampleCache(dataset, limit=4_000_000 + 50_000)
    for i in range(len(dataset)):
        cache.read(i)
    assert len(cache._samples) == 1
