"""Few labels, none, or more than the model can answer: every set-prediction family trains and scores all the same."""

import json
import math
import shutil

import pytest
import yaml

TRUNK = {"name": "timm", "model": "test_resnet"}  # half a million parameters
SMALL = {"dim": 128, "heads": 8, "encoder_layers": 1, "decoder_layers": 2, "ffn": 32}
MASKS = {"dim": 32, "heads": 2, "decoder_layers": 2, "ffn": 32}
DETR = {"queries": 6, "transformer": SMALL}
MODELS = {
    "detr detection": {"name": "detr", **DETR},
    "detr instance": {"name": "detr", **DETR},
    "detr panoptic": {"name": "detr", **DETR},
    "maskformer semantic": {"name": "maskformer", "transformer": MASKS, "queries": 6},
    "maskformer instance": {"name": "maskformer", "transformer": MASKS, "queries": 6},
    "maskformer panoptic": {"name": "maskformer", "transformer": MASKS, "queries": 6},
    "per_pixel semantic": {"name": "per_pixel_plus", **MASKS},
}
LABELS = {
    "one object": lambda annotations: annotations[:1],
    "a class never seen": lambda annotations: [a for a in annotations if a["category_id"] == 3],
}


@pytest.fixture
def train(segcli, tiny_dataset, tmp_path):
    """`train("detr detection", change of each split's annotations, queries=…)` -> what the command gave."""
    shutil.copytree(tiny_dataset, tmp_path / "data" / "tiny")

    def run(case, change, **settings):
        for path in (tmp_path / "data" / "tiny" / "annotations").iterdir():
            data = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps({**data, "annotations": change(data["annotations"])}), encoding="utf-8")
        recipe = {
            **{"name": "sparse", "task": case.split()[1], "data": {"root": "data/tiny", "size": 64}},
            "model": {"backbone": TRUNK, **MODELS[case], **settings},
            "train": {"steps": 2, "batch_size": 2, "log_every": 1, "evaluations": 1},
            "hardware": {"device": "cpu", "workers": 0},
        }
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return segcli("train", "r.yaml", "-q")

    return run


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("case", MODELS)
def test_it_trains_and_scores(train, tmp_path, case, labels):
    result = train(case, LABELS[labels])
    assert result.code == 0, result.err
    log = [json.loads(line) for line in (tmp_path / "runs/sparse/log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(math.isfinite(entry["loss"]) for entry in log if "loss" in entry)
    scores = json.loads((tmp_path / "runs/sparse/metrics.json").read_text(encoding="utf-8"))
    assert all(0 <= value <= 1 for value in scores["metrics"].values())
    assert scores["images"] == 2
    if labels == "a class never seen":
        assert not any(math.isnan(v) for of_class in scores["per_class"].values() for v in of_class.values())


@pytest.mark.parametrize("case", MODELS)
def test_no_object_at_all_is_refused(train, case):
    result = train(case, lambda annotations: [])
    assert result.code == 3
    assert "nothing that a model could learn" in result.error


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", ["detr instance", "maskformer instance"])
def test_more_objects_than_queries_names_image_and_setting(train, case):
    with pytest.warns(UserWarning, match=r"image [125] has 2 (objects|segments).*model\.queries"):
        assert train(case, lambda annotations: annotations, queries=1).code == 0
