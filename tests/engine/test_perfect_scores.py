"""Labels fed as predictions score exactly 100: every dataset at hand, every task that it has labels for."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.recipe.recipe import Recipe
from segcli.core.trust import grant
from segcli.data.dataset import Dataset
from segcli.metrics import metric_for
from segcli.metrics.boundary import BoundaryScores
from segcli.types import IGNORE, Prediction

FOLDERS = ["PennFudanPed", "nuclei_dsb2018", "fruits_nuts", "coco_mini", "labelme_voc3/data_dataset_coco"]
FOLDERS += ["coco128", "coco_pose_mini", "balloon_via"]


def recipe(task, limit):
    return Recipe.parse(
        {
            **{"name": "test", "task": task, "data": {"root": "."}, "model": {"name": "rcnn"}, "train": {"steps": 1}},
            "eval": {"max_detections": limit},
        },
        "test",
    )


def score_labels(dataset, limit=100):
    metric, outlines = metric_for(dataset.task, dataset.info, limit), BoundaryScores(dataset.info, limit)
    for i in range(len(dataset)):
        target, annotations = dataset.annotated_target(i)
        if dataset.task == "semantic":
            metric.update([Prediction(target.image_id, target.size, semantic=target.semantic.numpy())], [target])
        elif dataset.task == "panoptic":
            metric.update([Prediction(target.image_id, target.size, panoptic=target.panoptic)], [target])
        else:
            found = dataset.annotated_target(i)[0].instances
            boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float64).reshape(-1, 4)
            found.boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
            found.scores = torch.ones(len(found))
            prediction = Prediction(target.image_id, target.size, found[~found.crowd])
            metric.update([prediction], [target], [annotations])
            if dataset.task == "instance":
                outlines.update([prediction], [target])
    return {**metric.compute(), **outlines.compute()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_instances_and_the_maps_made_of_them(shared_data, tmp_path, folder):
    root = prepare(str(shared_data / folder), tmp_path / "out", link=folder != "nuclei_dsb2018")
    dataset = Dataset(root)
    most = max(len(dataset.annotations(i)) for i in range(len(dataset)))
    scores = score_labels(dataset, limit=max(most, 100))
    # COCO's precision is tp / (tp + fp + spacing(1)): the first bit below 1 where a class has one object
    assert min(scores.values()) >= 1 - np.spacing(1.0)
    assert scores["segm_AP50"] == scores["bbox_AP50"] == scores["boundary_AP"] == 1.0
    assert {"segm_AP", "bbox_AP", "boundary_AP"} <= set(scores)
    if len(dataset.info.categories) < 200:
        for task in ("semantic", "panoptic"):
            values = score_labels(Dataset(root, task=task)).values()
            assert min(values) > 1 - 1e-12, "but for the rounding of a weighted mean"
    if folder == "nuclei_dsb2018":
        assert most > 100
        assert score_labels(dataset)["segm_AP"] < 1.0, "100 detections are too few here"


@pytest.mark.parametrize("split", ["train", "val"])
def test_camvid(shared_data, tmp_path, split):
    source = shared_data / "camvid"
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    files = sorted((source / split).glob("*.png"))
    info = DatasetInfo(
        "camvid",
        tuple(Category(n, i, thing=False) for i, n in enumerate(names)),
        {split: len(files)},
        image_root=str(source / split),
        semantic=True,
    )
    (tmp_path / "annotations").mkdir()
    (tmp_path / "semantic" / split).mkdir(parents=True)
    for file in files:
        labels = np.asarray(Image.open(source / f"{split}annot" / file.name)).copy()
        labels[labels == 11] = IGNORE
        Image.fromarray(labels).save(tmp_path / "semantic" / split / file.name)
    images = [{"id": i, "file_name": f.name, "width": 480, "height": 360} for i, f in enumerate(files)]
    (tmp_path / "info.json").write_text(json.dumps(info.to_json()))
    (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps({"images": images, "annotations": []}))
    grant(tmp_path, info.image_root, source, trusted=False)
    scores = score_labels(Dataset(tmp_path, split, task="semantic"))
    assert scores == {"mIoU": 1.0, "fwIoU": 1.0, "pixel_accuracy": 1.0}


def test_made_shapes_on_every_task(tiny_dataset):
    for task in ("detection", "instance", "semantic", "panoptic"):
        assert set(score_labels(Dataset(tiny_dataset, task=task)).values()) == {1.0}
