"""Runs that can't be compared or shown: one clear line and its exit code, or a note beside what can."""

import json
import shutil

import pytest


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of the trained run and its data, in an empty folder."""
    shutil.copytree(trained / "data", tmp_path / "data")
    copied = shutil.copytree(trained / "runs" / "tiny run", tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    return copied


GOOD = {"image_id": 5, "category_id": 3, "bbox": [0, 0, 4, 4], "score": 0.9}
BROKEN = {
    "missing": (None, "there is no such file"),
    "truncated": ('[{"image_id": 5, "category', "not valid JSON"),
    "empty": ("", "not valid JSON"),
    "unknown image": (json.dumps([{**GOOD, "image_id": 99}]), "image 99 is not in"),
    "unknown class": (json.dumps([{**GOOD, "category_id": 4}]), "category 4 is not in"),
    "score that is no number": (json.dumps([{**GOOD, "score": float("nan")}]), "image 5: not COCO results"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_predictions_are_named_and_compare_shows_the_rest(segcli, run, kind):
    text, words = BROKEN[kind]
    file = run / "predictions" / "val.json"
    file.unlink() if text is None else file.write_text(text)
    result = segcli("visualize", "predictions", "runs/mine", "--worst", "1", "-q")
    assert result.code == 3
    first, *others = result.err.splitlines()
    assert first.startswith("error: runs/mine/predictions/val.json: ")
    assert words in first
    assert all(line.startswith("hint: ") for line in others)
    result = segcli("compare", "--html", "r.html")
    assert result.code == 0, "the scores are there"
    assert "mine: not among the pictures: " in result.err
    assert words in result.err
    assert "Traceback" not in result.err


ENTRIES = [{"image_id": i, "file_name": f"{i}.png", "segments_info": []} for i in (5, 6)]
BROKEN_MAPS = {
    "no file name": (
        [{"image_id": 5, "segments_info": []}, ENTRIES[1]],
        "annotations[0]: file_name None is not the name of a file",
    ),
    "no segments": (
        [ENTRIES[0], {"image_id": 6, "file_name": "6.png"}],
        "annotations[1]: segments_info is no list of segments",
    ),
    "segments of another kind": ([{**ENTRIES[0], "segments_info": [7]}, ENTRIES[1]], "segments_info is no list of"),
    "unknown image": ([*ENTRIES, {**ENTRIES[0], "image_id": 99}], "image 99 is not in"),
    "entry of another kind": ([ENTRIES[0], 6], "annotations[1]: image_id None is not a whole number"),
    "no image": (ENTRIES[:1], "it has nothing for image 6 of"),
}


@pytest.mark.parametrize("kind", BROKEN_MAPS)
def test_broken_panoptic_predictions_are_named_and_compare_shows_the_rest(segcli, run, kind):
    entries, words = BROKEN_MAPS[kind]
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("task: instance", "task: panoptic"))
    (run / "metrics.json").write_text(
        json.dumps({"schema_version": 1, "task": "panoptic", "primary": "PQ", "metrics": {"PQ": 0.2}, "images": 2})
    )
    (run / "predictions" / "val_panoptic.json").write_text(json.dumps({"annotations": entries}))
    result = segcli("compare", "--html", "r.html")
    assert result.code == 0, result.err
    assert "mine: not among the pictures: runs/mine/predictions/val_panoptic.json: " in result.err
    assert words in result.err
    assert "Traceback" not in result.err


def test_a_run_that_detects_nothing_is_shown_and_compared(segcli, run):
    (run / "predictions" / "val.json").write_text("[]")
    scores = json.loads((run / "metrics.json").read_text())
    scores["metrics"] = dict.fromkeys(scores["metrics"], 0.0)
    (run / "metrics.json").write_text(json.dumps(scores))
    assert segcli("visualize", "predictions", "runs/mine", "--worst", "1", "-q").code == 0
    result = segcli("compare", "--html", "r.html")
    assert result.code == 0
    assert "not among the pictures" not in result.err


def test_suppression_of_a_run_without_scores_is_refused_before_the_evaluation(segcli, run, monkeypatch):
    (run / "metrics.json").unlink()
    monkeypatch.setattr("segcli.commands.evaluate.score_model", lambda *_, **__: 1 / 0)
    result = segcli("eval", "runs/mine", "--nms", "off")
    assert result.code == 4
    assert "error: runs/mine/metrics.json: missing" in result.err


def test_an_interrupted_run_beside_a_finished_one_of_other_data(segcli, run, fake_run):
    (run / "metrics.json").unlink()
    fake_run("elsewhere", data="pennfudan")
    fake_run("other", data="balloon")
    result = segcli("compare", "runs/mine")
    assert result.code == 4
    assert result.err.splitlines() == [
        "error: runs/mine/metrics.json: missing, the run is not finished",
        "hint: segcli train --resume runs/mine",
    ]
    result = segcli("compare")
    assert result.code == 0
    assert "skipped: runs/mine/metrics.json: missing, the run is not finished" in result.err
    assert "note: scores on different data" in result.out
    assert segcli("compare", "--json").json["pairs"] == []


def test_a_broken_log_is_named_before_the_evaluation(segcli, run, monkeypatch):
    (run / "log.jsonl").write_text('{"step": "x"}\n{"step": 1}\n', encoding="utf-8")
    monkeypatch.setattr("segcli.commands.evaluate.score_model", lambda *_, **__: 1 / 0)
    result = segcli("eval", "runs/mine")
    assert result.code == 4
    assert result.error.startswith("error: runs/mine/log.jsonl, line 1: ")
