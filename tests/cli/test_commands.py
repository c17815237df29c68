"""Every command on a model of three training steps: what is printed, what is written, which code is returned."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image


@pytest.fixture
def here(segcli, trained, monkeypatch):
    """`segcli`, run where the trained model is."""
    monkeypatch.chdir(trained)
    return segcli


def test_train_keeps_everything_in_a_run_folder(trained):
    run = trained / "runs" / "tiny run"
    files = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert files >= {
        *("recipe.yaml", "environment.json", "log.jsonl", "metrics.json", "cost.json", "predictions/val.json"),
        *("checkpoints/last.pt", "checkpoints/best.safetensors"),
    }


def test_a_finished_run_resumed_prints_its_scores_and_the_next_commands(here):
    result = here("train", "--resume", "runs/tiny run", "-q")
    assert result.code == 0
    assert "tiny run, 2 val images" in result.out
    assert "segcli predict 'runs/tiny run' FOLDER" in result.out
    assert "segcli compare 'runs/tiny run'" in result.out


@pytest.mark.parametrize("extra", [["--set", "train.seed=5"], ["--out", "x"], ["--force"], ["--dry-run"]])
def test_resume_changes_nothing_about_a_run(here, extra):
    result = here("train", "--resume", "runs/tiny run", *extra)
    assert result.code == 2
    assert "--resume goes on with a run as it was" in result.err


def test_resume_of_something_else(here):
    assert here("train", "--resume", "runs/absent").code == 4
    result = here("train", "quickstart/mask_rcnn", "--resume", "runs/tiny run")
    assert result.code == 2
    assert "is a run of recipe tiny run, not of quickstart/mask_rcnn" in result.err


def test_dry_run_forecasts_and_writes_nothing(here, trained):
    before = sorted(trained.rglob("*"))
    result = here("train", "r.yaml", "--dry-run", "--set", "train.epochs=2")
    assert result.code == 0
    for words in ("train images  4", "4 of ", "roi_heads.heads.mask", "1 multiply-add = 1 FLOP"):
        assert words in result.out
    assert sorted(trained.rglob("*")) == before


def test_train_refuses_a_folder_in_use_and_keeps_it(here, trained):
    scores = (trained / "runs" / "tiny run" / "metrics.json").read_bytes()
    result = here("train", "r.yaml", "--out", "runs/tiny run")
    assert result.code == 2
    assert "--force" in result.err
    assert (trained / "runs" / "tiny run" / "metrics.json").read_bytes() == scores


def test_eval_gives_what_training_gave(here):
    trained = here("train", "--resume", "runs/tiny run", "-q").out.split("next:")[0].splitlines()
    result = here("eval", "runs/tiny run", "-q")
    assert result.code == 0
    assert [line.strip() for line in result.out.splitlines()[1:]] == [line.strip() for line in trained[1:]]
    assert result.err.startswith("diagnosis: "), "after three steps the score is near 0: a result, also with -q"
    assert "too few steps: 3 steps of 2 images are done" in result.err
    assert {line.split(":")[0] for line in result.err.splitlines()} == {"diagnosis"}


def test_eval_json_is_metrics_json(here, trained):
    result = here("eval", "runs/tiny run", "--json")
    assert result.code == 0
    keys = {"schema_version", "task", "primary", "metrics", "per_class", "images", "seconds"}
    assert keys <= result.json.keys()
    assert (result.json["schema_version"], result.json["primary"], result.json["images"]) == (1, "segm_AP", 2)
    assert set(result.json["per_class"]) == {"cat", "dog"}


@pytest.mark.parametrize(("value", "code"), [(0.5, 1), (0.0, 0)])
def test_eval_check_exits_1_outside_the_expected_range(here, trained, tmp_path, value, code):
    run = shutil.copytree(trained / "runs" / "tiny run", tmp_path / "run")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["expect"] = {"segm_AP": {"value": value, "tolerance": 0.45}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    result = here("eval", run, "--check", "--json")
    assert result.code == code
    assert len(result.json["outside_expectations"]) == code
    assert ("below the expected 0.050 to 0.950" in result.err) == bool(code)


def test_eval_check_without_expectations_is_a_mistake(here):
    assert here("eval", "runs/tiny run", "--check").code == 2


def test_eval_of_a_recipe_without_weights(here):
    result = here("eval", "r.yaml")
    assert result.code == 4
    assert "names no weights" in result.err


def test_eval_of_a_split_that_is_not_there(here):
    result = here("eval", "runs/tiny run", "--split", "vla")
    assert result.code in (2, 3)
    assert "vla" in result.err


def test_predict_writes_what_was_asked_into_a_fresh_folder(here, trained, tmp_path):
    images = shutil.copytree(trained / "data" / "tiny" / "images", tmp_path / "my images")
    (images / "broken.png").write_bytes(b"no image")
    first = here("predict", "runs/tiny run", images, "--score", "0", "--json")
    assert first.code == 0
    assert (first.json["out"], first.json["images"]) == ("predictions/tiny run", 5)
    assert [f["file"] for f in first.json["failed"]] == [str(images / "broken.png")]
    assert "broken.png" in first.err
    out = trained / "predictions" / "tiny run"
    assert len(list((out / "overlays").iterdir())) == 5
    assert (out / "predictions.json").is_file()
    again = here("predict", "runs/tiny run", images, "--save", "coco", "-q")
    assert again.code == 0
    assert "5 images, 0 objects with a score of at least 0.5, 1 skipped" in again.out
    assert again.out.rstrip().endswith("predictions/tiny run-2")
    assert [p.name for p in (trained / "predictions" / "tiny run-2").iterdir()] == ["predictions.json"]


def test_predict_replaces_finished_predictions_with_force_alone(here, trained, tmp_path):
    command = ("predict", "runs/tiny run", trained / "data" / "tiny" / "images" / "five.png", "--out", tmp_path / "out")
    first = here(*command, "--save", "overlay")
    assert (first.code, first.out.split(",")[0]) == (0, "1 image")
    again = here(*command, "--save", "overlay")
    assert again.code == 2
    assert again.error == f"error: {tmp_path / 'out'} holds predictions already"
    assert here(*command, "--save", "overlay", "--force").code == 0


def test_predict_says_that_images_are_too_dark_for_the_model(here, tmp_path):
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 2**12, (48, 64)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    result = here("predict", "runs/tiny run", tmp_path, "--out", tmp_path / "out", "-q")
    assert result.code == 0
    (line,) = [line for line in result.err.splitlines() if line.startswith("note:")]
    assert "0.png and 2 more: images of more than 8 bits with values from 0 to 409" in line


def test_predict_on_nothing_readable(here, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert here("predict", "runs/tiny run", tmp_path / "broken.png").code == 3
    assert here("predict", "runs/tiny run", tmp_path / "absent.png").code == 3
    result = here("predict", "runs/tiny run", tmp_path / "broken.png", "--save", "overlay,cocoa")
    assert result.code == 2
    assert "cocoa" in result.err


def test_visualize_prints_the_pictures_that_it_wrote(here, tmp_path):
    for args in (
        ("data", "data/tiny", "--split", "val", "--out", tmp_path),
        ("data", "data/tiny", "--split", "train", "--augmented", "r.yaml", "--out", tmp_path),
        ("predictions", "runs/tiny run", "--worst", "1", "--out", tmp_path),
    ):
        result = here("visualize", *args)
        assert result.code == 0
        written = [Path(line) for line in result.out.splitlines()]
        assert written
        assert all(p.parent == tmp_path and p.stat().st_size > 1000 for p in written)


def test_visualize_of_what_is_not_there(here):
    assert here("visualize", "data", "data/absent").code == 3
    assert here("visualize", "predictions", "runs/absent").code == 4


def test_compare_a_run_with_an_untrained_recipe(here):
    result = here("compare", "runs/tiny run", "r.yaml", "--json")
    assert result.code == 0
    run, recipe = result.json["rows"]
    assert (run["source"], recipe["source"]) == ("run", "recipe")
    assert run["gflops"] == recipe["gflops"] > 0
    assert run["params"] == recipe["params"]
    assert recipe["metrics"] == {}
    assert "measuring r.yaml" in result.err


def test_prepare_says_what_it_made_and_how_to_go_on(segcli, tiny_dataset, tmp_path):
    result = segcli("prepare", tiny_dataset / "annotations", "--out", "data/my set", "-q")
    assert result.code == 0
    assert (tmp_path / "data" / "my set" / "info.json").is_file()
    assert "segcli visualize data 'data/my set'" in result.out
    assert "segcli train custom/mask_rcnn --data 'data/my set'" in result.out
    facts = segcli("prepare", tiny_dataset / "annotations", "--out", "data/my set", "--json")
    assert facts.json["schema_version"] == 1
    assert facts.json["splits"]["train"]["images"] == 4


def test_prepare_check_reports_and_writes_nothing(segcli, tiny_copy, tmp_path):
    result = segcli("prepare", tiny_copy, "--check")
    assert result.code == 0
    assert "6 images, 9 annotations" in result.out
    next((tiny_copy / "images").glob("one*")).unlink()
    broken = segcli("prepare", tiny_copy, "--check", "--json")
    assert broken.code == 3
    assert not broken.json["ok"]
    assert "1 error in the data" in broken.err


def test_prepare_of_what_is_unknown(segcli):
    result = segcli("prepare", "shapse")
    assert result.code == 3
    assert "did you mean 'shapes'?" in result.err


def test_recipes_lists_what_is_shipped_by_task(segcli):
    rows = segcli("recipes", "--json").json["recipes"]
    one = next(row for row in rows if row["name"] == "pennfudan/mask_rcnn_lite")
    assert (one["task"], one["data"], one["length"]) == ("instance", "pennfudan", "12 minutes")
    assert one["expected"]["segm_AP"] == {"value": 0.625, "tolerance": 0.04}
    assert {row["task"] for row in segcli("recipes", "--task", "panoptic", "--json").json["recipes"]} == {"panoptic"}
    assert "custom/detr" in segcli("recipes").out
    unknown = segcli("recipes", "--task", "boxes")
    assert "there is no task 'boxes'" in unknown.error
    assert "panoptic" in unknown.err
    assert {row["task"] for row in segcli("recipes", "--task", "mesh", "--json").json["recipes"]} == {"mesh"}


@pytest.mark.parametrize(("flag", "key"), [("--seed", "seed"), ("--split", "split"), ("--threshold", "threshold")])
def test_prepare_refuses_a_setting_that_is_given_twice(segcli, flag, key):
    result = segcli("prepare", "solids", flag, "1", "--set", f"{key}=2")
    assert (result.code, f"--set {key}=… and {flag} say the same setting twice" in result.err) == (2, True)


def test_train_takes_any_dataset(segcli, tiny_dataset):
    short = ["--set", "train.steps=1", "--set", "train.evaluations=1", "--set", "data.size=64"]
    short += ["--set", "model.backbone={name: timm, model: test_efficientnet, norm: folded}", "--set", "init=null"]
    with pytest.warns(UserWarning, match="left out data.name, data.split_file, expect of its own dataset"):
        done = segcli("train", "pennfudan/mask_rcnn_lite", "--data", tiny_dataset, *short)
    assert done.code == 0, done.err
    assert (Path("runs") / f"{tiny_dataset.name}-mask_rcnn_lite" / "metrics.json").is_file()
    assert "no prepared dataset" in segcli("train", "custom/fcn", "--data", "nowhere").error
    assert segcli("train", "--resume", "runs/x", "--data", tiny_dataset).code == 2


def test_predict_says_where_the_usual_object_is_hardly_seen(here, trained, tmp_path):
    """The run was trained on 64 pixels, where its objects have about 24; at 2,000 pixels they would have one."""
    Image.new("RGB", (2000, 1500)).save(tmp_path / "large.png")
    environment = json.loads((trained / "runs" / "tiny run" / "environment.json").read_text())
    assert 15 < environment["object_pixels"] < 35
    assert environment["object_pixels"] <= environment["largest_in_input"] < 64
    said = here("predict", "runs/tiny run", tmp_path / "large.png", "--out", tmp_path / "out").err
    assert "large.png: in the model's input an object of the usual size has 1 pixel left" in said
    assert "in tiles (--tile " in said


def test_one_class_alone_is_no_label_map_to_learn(segcli, tiny_copy):
    """Every labelled pixel would be right: mIoU 100 after no step."""
    info = json.loads((tiny_copy / "info.json").read_text())
    info["categories"] = info["categories"][:1]
    (tiny_copy / "info.json").write_text(json.dumps(info))
    for split in ("train", "val"):
        file = tiny_copy / "annotations" / f"{split}.json"
        data = json.loads(file.read_text())
        data["annotations"] = [a for a in data["annotations"] if a["category_id"] == 3]
        data["categories"] = data["categories"][:1]
        file.write_text(json.dumps(data))
    result = segcli("train", "fcn", "--data", tiny_copy)
    assert result.code == 2
    assert "task semantic needs two classes: dataset 'tiny' has 'cat' alone" in result.err
    assert "segcli recipes --task instance" in result.err


NOTES = ("note: ", "diagnosis: ", "skipped: ", "error: ", "hint: ", "mine: not among the pictures")


def test_quiet_leaves_results_notes_and_errors_alone(segcli, trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    picture = "data/tiny/images/three.png"
    small = ["--set", "data.prepare={train: 4, val: 2, size: 96}", "--set", "train.steps=1", "--set", "data.size=64"]
    small += ["--set", "model.backbone={name: timm, model: test_efficientnet}"]
    calls = [
        ("prepare", "data/tiny", "data/tiny", "--out", "data/two"),
        ("prepare", "data/tiny", "--check"),
        ("prepare", "data/tiny", "--fix"),
        ("prepare", "data/tiny", "--to", "yolo"),
        ("train", "quickstart/fcn", *small, "--set", "data.root=data/shapes"),
        ("train", "--resume", "runs/tiny run"),
        ("eval", "runs/tiny run"),
        ("predict", "runs/tiny run", picture),
        ("visualize", "data", "data/tiny"),
        ("visualize", "predictions", "runs/tiny run"),
        ("compare", "--html", "r.html", "--csv", "c.csv"),
        ("compare", "r.yaml", "--train"),
        ("recipes",),
    ]
    for place in ("before", "after"):
        for call in calls if place == "after" else calls[6:8]:
            result = segcli(*(["-q", *call] if place == "before" else [*call, "-q"]))
            assert result.code == 0, result.err
            assert [line for line in result.err.splitlines() if not line.startswith(NOTES)] == [], call
            assert result.out
