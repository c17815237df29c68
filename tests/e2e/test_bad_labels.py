"""Wrong labels and recipes: refused before any work, by file and place; what can be mended is said and left out."""

import json
import shutil

import pytest
import torch
import yaml

from segcli.data.fingerprint import current

NAN = float("nan")


@pytest.fixture
def edit(trained, tmp_path, segcli):
    """`edit(change)`: a copy of the dataset, data/tiny, whose train.json `change` altered (a new value, or text)."""
    shutil.copytree(trained / "data", tmp_path / "data")
    shutil.copy(trained / "r.yaml", tmp_path)

    def apply(change, split="train"):
        path = tmp_path / "data" / "tiny" / "annotations" / f"{split}.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        changed = change(data)
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed), encoding="utf-8")

    return apply


def first(**changes):
    """A change of annotation 101."""

    def change(data):
        data["annotations"][0].update(changes)
        return data

    return change


def image(**changes):
    """A change of image 1."""

    def change(data):
        data["images"][0].update(changes)
        return data

    return change


REFUSED = {
    "truncated": (lambda data: json.dumps(data)[:300], "not valid JSON"),
    "empty file": (lambda data: "", "not valid JSON"),
    "endlessly nested": (lambda data: "[" * 100_000, "not valid JSON"),
    "no list": (lambda data: {**data, "annotations": None}, "no list 'annotations'"),
    "endless number": (lambda data: json.dumps(data).replace(": 101", ": " + "9" * 5000), "not valid JSON"),
    "dangling image": (first(image_id=99), "annotation 101: image id 99"),
    "dangling category": (first(category_id=99), "annotation 101: category id 99"),
    "nan box": (first(bbox=[NAN, 0, 5, 5]), "annotation 101: bbox [nan, 0, 5, 5] is not finite"),
    "negative box": (first(bbox=[1, 1, -5, 5]), "annotation 101: bbox [1, 1, -5, 5] has a negative size"),
    "huge box": (first(bbox=[0, 0, 10**400, 5]), "annotation 101: bbox"),
    "nan polygon": (first(segmentation=[[NAN] * 6]), "annotation 101: a polygon has a coordinate that is not finite"),
    "far polygon": (first(segmentation=[[1e9, 1, 2, 2, 3, 3]]), "annotation 101: a polygon reaches 1000000000.0"),
    "huge polygon": (first(segmentation=[[10**400, 1, 2, 2, 3, 3]]), "annotation 101: a polygon"),
    "nan area": (first(area=NAN), "annotation 101: area nan"),
    "huge area": (first(area=10**400), "annotation 101: area"),
    "image without width": (image(width=0), "image 1 (one image.png): width 0"),
    "image from outside": (image(file_name="../../secret.png"), "image 1: file_name '../../secret.png'"),
    "empty split": (lambda data: {**data, "images": [], "annotations": []}, "the split 'train' has no image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_training_refuses_wrong_labels_by_file_and_place(segcli, edit, tmp_path, case):
    change, says = REFUSED[case]
    edit(change)
    result = segcli("train", "r.yaml")
    assert result.code == 3
    assert says in result.error
    assert ("data/tiny" if case == "empty split" else "data/tiny/annotations/train.json") in result.error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "case", [c for c in REFUSED if c not in ("dangling image", "image without width", "empty split")]
)
def test_preparing_refuses_what_training_would(segcli, edit, tmp_path, case):
    """Only dangling annotations are left out and empty splits divided anew (with a note), and missing sizes read from
    the image."""
    edit(REFUSED[case][0])
    result = segcli("prepare", "data/tiny/annotations", "--out", "prepared")
    assert result.code == 3
    assert any(place in result.error for place in ("train.json", "one image.png", "secret.png"))
    assert not (tmp_path / "prepared").exists()


def test_preparing_notes_the_annotations_that_it_leaves_out(segcli, edit):
    edit(first(image_id=99))
    result = segcli("prepare", "data/tiny/annotations", "--out", "prepared")
    assert result.code == 0
    assert "train.json: 1 annotations of images that are not listed are left out: 101" in result.out


@pytest.mark.parametrize(
    "changes",
    [
        {"bbox": [1, 1, 0, 0]},
        {"bbox": [-50, -50, 500, 500]},
        {"segmentation": [[-20, -20, 30, -20, 30, 30]]},
        {"segmentation": [[5, 5, 5, 5, 5, 5]]},
        {"segmentation": [[100, 100, 120, 100, 120, 120]]},
    ],
)
def test_objects_at_and_beyond_the_border_do_not_stop_a_training(segcli, edit, tmp_path, changes, recwarn):
    """Masks decide: boxes are made from them; a polygon is cut at the border; what covers no pixel is left out."""
    edit(first(**changes))
    result = segcli("train", "r.yaml", "--set", "train.steps=1", "-q")
    assert result.code == 0, result.err
    losses = [json.loads(line) for line in (tmp_path / "runs/tiny run/log.jsonl").read_text().splitlines()]
    assert losses[0]["loss"] > 0
    empty = changes.get("segmentation", [[0]])[0][0] >= 5
    warned = [str(w.message) for w in recwarn if "covers no pixel" in str(w.message)]
    assert bool(warned) == empty
    assert all("train.json: annotation 101 (one image.png)" in text for text in warned)


def test_nothing_to_score_is_allowed_and_nothing_to_learn_is_refused(segcli, edit):
    edit(lambda data: {**data, "annotations": []}, "val")
    assert segcli("train", "r.yaml", "--set", "train.steps=1", "-q").code == 0
    result = segcli("eval", "runs/tiny run", "--json")
    assert result.code == 0
    assert result.json["images"] == 2
    edit(lambda data: {**data, "annotations": []})
    result = segcli("train", "r.yaml")
    assert result.code == 3
    assert "nothing that a model could learn (none of its 4 images has an object" in result.error


def test_a_broken_image_is_refused_before_any_work(segcli, edit, tmp_path):
    (tmp_path / "data/tiny/images/four.jpg").write_bytes(b"no image")
    result = segcli("train", "r.yaml")
    assert result.code == 3
    assert "data/tiny: 1 images can't be decoded (data/tiny/images/four.jpg" in result.error
    assert "--fix" in result.err
    assert not (tmp_path / "runs").exists()


def test_the_check_before_a_training_is_done_once(segcli, edit, tmp_path, monkeypatch):
    edit(lambda data: data)
    assert segcli("train", "r.yaml", "--set", "train.steps=1", "-q").code == 0

    def never(root):
        raise AssertionError("nothing has changed")

    monkeypatch.setattr("segcli.doctor.report_cache.check", never)
    assert segcli("train", "r.yaml", "--set", "train.steps=1", "-q").code == 0
    (tmp_path / "data/tiny/images/one image.png").touch()
    assert "nothing has changed" in segcli("train", "r.yaml", "--set", "train.steps=1", "--debug").err


def test_warnings_are_counted_before_a_training(segcli, edit):
    edit(first(area=9999))
    result = segcli("train", "r.yaml", "--set", "train.steps=1", "--set", "eval.max_detections=1")
    assert result.code == 0
    assert "note: data/tiny: 1 × area_mismatch" in result.err
    assert "up to 2 objects, but eval.max_detections is 1" in result.err
    assert "model.queries" not in result.err


def test_an_image_that_breaks_later_stops_a_training_after_saving_what_it_had_learned(
    segcli, edit, tmp_path, monkeypatch
):
    late = tmp_path / "data" / "tiny" / "images" / "four.jpg"  # in the second batch of seed 0
    whole = late.read_bytes()

    def break_afterwards(root, info):
        found = current(root, info)
        late.write_bytes(whole[: len(whole) // 2])
        return found

    monkeypatch.setattr("segcli.engine.training.current", break_afterwards)
    result = segcli("train", "r.yaml", "-q")
    assert result.code == 3
    assert str(late.relative_to(tmp_path)) in result.error
    state = torch.load(tmp_path / "runs/tiny run/checkpoints/last.pt", weights_only=True)
    assert state["progress"]["step"] == 1
    late.write_bytes(whole)
    assert segcli("train", "--resume", "runs/tiny run", "-q").code == 0


def test_an_evaluation_that_fails_keeps_the_last_one(segcli, edit, trained, tmp_path):
    shutil.copytree(trained / "runs", tmp_path / "runs")
    run = tmp_path / "runs" / "tiny run"
    before = {name: (run / name).read_bytes() for name in ("metrics.json", "predictions/val.json")}
    (tmp_path / "data/tiny/images/sub/six.png").write_bytes(b"")
    result = segcli("eval", "runs/tiny run")
    assert result.code == 3
    assert "data/tiny/images/sub/six.png" in result.error
    assert {name: (run / name).read_bytes() for name in before} == before
    assert not [p for p in run.rglob(".*") if p.is_file()], "no half-written file is left"


@pytest.mark.parametrize(
    ("change", "says", "hint"),
    [
        (("trian", {"steps": 3}), "trian", "train"),
        (("train", {"steps": 3, "batch_sise": 2}), "train.batch_sise", "batch_size"),
        (("model", {"name": "rcn"}), "rcn", "rcnn"),
        (("train", {"steps": -3}), "train.steps", None),
        (("task", "instnace"), "task: input should be 'detection', 'instance'", None),
    ],
)
def test_a_recipe_with_typos(segcli, edit, tmp_path, change, says, hint):
    recipe = yaml.safe_load((tmp_path / "r.yaml").read_text())
    (tmp_path / "내 레시피.yaml").write_text(yaml.safe_dump({**recipe, change[0]: change[1]}), encoding="utf-8")
    result = segcli("train", "내 레시피.yaml")
    assert result.code == 2
    assert says in result.error
    assert "내 레시피.yaml" in result.error or change[0] == "model"
    assert hint is None or f"did you mean '{hint}'" in result.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["", "- a\n- list", "name: [unclosed", "name: \x00"])
def test_what_is_no_recipe(segcli, tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    result = segcli("train", "r.yaml")
    assert result.code == 2
    assert "r.yaml" in result.error
