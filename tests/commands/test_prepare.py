"""`segcli prepare` as a whole: sources, splits, what is said, and what a recipe gets."""

import base64
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sources import FORMATS

from segcli.commands.prepare import describe, diagnose, export, known, next_command, prepare, prepare_for
from segcli.core.errors import DataError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.data.dataset import Dataset
from segcli.sources.split import draw_split, parse_split

SMALL = {"train": 6, "val": 2, "size": 96}


@pytest.fixture
def folder(tmp_path):
    """Ten photographs with an object each, as PennFudan has it."""
    for i in range(10):
        ids = np.zeros((20, 30), np.uint8)
        ids[5 : 8 + i, 5:12] = 3
        for place, content in (
            (f"PNGImages/p{i}.png", np.full((20, 30, 3), i * 20, np.uint8)),
            (f"PedMasks/p{i}_mask.png", ids),
        ):
            (tmp_path / "peds" / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(tmp_path / "peds" / place)
    return tmp_path / "peds"


def names(root, split):
    return Dataset(root, split).file_names


def notes(root):
    return json.loads((root / "prepared.json").read_text("utf-8"))["notes"]


def test_shapes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = prepare("shapes", settings=SMALL)
    assert str(root) == "data/shapes"
    facts = json.loads(json.dumps(describe(root)))
    assert facts["splits"]["train"]["images"] == 6
    assert facts["splits"]["val"]["images"] == 2
    assert facts["statistics"]["train"]["objects_per_image"][0] >= 3
    assert 0 <= facts["statistics"]["train"]["occluded"] <= 1
    assert facts["next"] == "segcli train quickstart/mask_rcnn"
    sample = Dataset(root, "train", task="panoptic").read(0)
    assert sample.target.panoptic is not None
    assert set(np.unique(sample.target.semantic)) <= set(range(12))
    assert prepare("shapes", settings=SMALL) == root  # nothing to do
    with pytest.raises(DataError, match="prepared differently"):
        prepare("shapes", settings=SMALL, seed=1)
    before = (root / "images/train/000001.png").read_bytes()
    prepare("shapes", settings=SMALL, seed=1, force=True)
    assert (root / "images/train/000001.png").read_bytes() != before


@pytest.mark.parametrize(
    "wrong",
    [{"split": "train=0.5,val=0.5"}, {"link": True}, {"split_by": "x.txt"}, {"format": "coco"}, {"source_path": "."}],
)
def test_shapes_take_no_flags_of_files(tmp_path, wrong):
    with pytest.raises(UsageError, match="made by segcli"):
        prepare("shapes", tmp_path / "s", **wrong)


def test_unknown_settings_name_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"data\.prepare\.trian.*'train'"):
        prepare("shapes", tmp_path / "s", settings={"trian": 3})


def test_random_split(folder, tmp_path):
    root = prepare(str(folder), tmp_path / "a")
    assert (len(names(root, "train")), len(names(root, "val"))) == (8, 2)
    assert not set(names(root, "train")) & set(names(root, "val"))
    few = "2 images in val: their scores say little, and --split train=0.5,val=0.5 gives it more"
    assert notes(root)[1:] == [f"split at random (train=0.8,val=0.2, seed 0); {few}"]  # the first: what the masks are
    other = prepare(str(folder), tmp_path / "b", seed=1)
    assert names(other, "val") != names(root, "val")
    three = prepare(str(folder), tmp_path / "c", split="train=0.6,val=0.2,test=0.2")
    assert [len(names(three, s)) for s in ("train", "val", "test")] == [6, 2, 2]
    assert notes(three)[1:] == ["split at random (train=0.6,val=0.2,test=0.2, seed 0)"]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_an_image_that_was_cut_off_is_named(folder, tmp_path, kind):
    """A JPEG with bytes behind its end is whole."""
    where = folder / "PNGImages"
    noise = np.random.default_rng(0).integers(0, 255, (3, 20, 30, 3), np.uint8)
    for old, pixels in zip(sorted(where.iterdir())[:3], noise, strict=True):
        old.unlink()
        Image.fromarray(pixels).save(old.with_suffix(f".{kind}"))
    cut, more, _ = sorted(where.iterdir())[:3]
    cut.write_bytes(cut.read_bytes()[:-200])
    if kind == "jpg":
        more.write_bytes(more.read_bytes() + b"a camera's own")
    said = f"1 image can't be decoded to the end ({cut.name}): --fix leaves such out"
    assert said in notes(prepare(str(folder), tmp_path / "a"))
    fixed = prepare(str(folder), tmp_path / "b", fix=True, drop=True)
    assert len(names(fixed, "train")) + len(names(fixed, "val")) == 9


def test_missing_images_are_counted_before_anything_is_written(folder, tmp_path):
    source = prepare(str(folder), tmp_path / "first")
    moved = shutil.copytree(source, tmp_path / "moved")
    (moved / "info.json").unlink()
    listed = {split: names(source, split) for split in ("train", "val")}
    for name in listed["train"][:3]:
        (moved / "images" / name).unlink()
    with pytest.raises(DataError, match=r"missing, and so are 2 more of the 10 listed ones") as caught:
        prepare(str(moved), tmp_path / "second", format="coco")
    assert "--fix --drop" in caught.value.hint
    assert not (tmp_path / "second").exists()


def test_split_does_not_depend_on_the_order_of_files():
    files = [f"{i}.png" for i in range(50)]
    first = draw_split(files, {"train": 0.7, "val": 0.3}, 5)
    turned = draw_split(files[::-1], {"train": 0.7, "val": 0.3}, 5)
    assert sorted(files[i] for i in first["val"]) == sorted(files[::-1][i] for i in turned["val"])
    assert sorted(first["train"] + first["val"]) == list(range(50))
    assert len(first["val"]) == 15
    few = draw_split(["a", "b", "c"], {"train": 0.98, "val": 0.01, "test": 0.01}, 0)
    assert [len(part) for part in few.values()] == [1, 1, 1]
    with pytest.raises(DataError, match="1 images"):
        draw_split(["a"], {"train": 0.8, "val": 0.2}, 0)


@pytest.mark.parametrize("text", ["train", "train=a,val=b", "train=0.8,val=0.3", "=1", "train=1.5,val=-0.5"])
def test_wrong_shares(text):
    with pytest.raises(UsageError, match="--split"):
        parse_split(text)


def test_split_by_file(folder, tmp_path):
    (tmp_path / "val.txt").write_text("# mine\np3\np7.png\n", encoding="utf-8")
    root = prepare(str(folder), tmp_path / "out", split_by=tmp_path / "val.txt")
    assert names(root, "val") == ["p3.png", "p7.png"]
    assert len(names(root, "train")) == 8
    with pytest.raises(UsageError, match="exclude"):
        prepare(str(folder), tmp_path / "x", split="train=0.5,val=0.5", split_by=tmp_path / "val.txt")
    with pytest.raises(UsageError, match=r"none\.txt"):
        prepare(str(folder), tmp_path / "x", split_by=tmp_path / "none.txt")
    (tmp_path / "val.txt").write_text("p99", encoding="utf-8")
    with pytest.raises(DataError, match="p99"):
        prepare(str(folder), tmp_path / "x", split_by=tmp_path / "val.txt")


def test_changed_sources_are_noticed(folder, tmp_path):
    root = prepare(str(folder), folder / "prepared")  # the folder that is written does not count as a change
    assert prepare(str(folder), folder / "prepared") == root
    ids = np.zeros((20, 30), np.uint8)
    ids[1:3, 1:3] = 1
    Image.fromarray(ids).save(folder / "PedMasks/p0_mask.png")
    with pytest.raises(DataError, match="source files"):
        prepare(str(folder), folder / "prepared")
    prepare(str(folder), folder / "prepared", force=True)


def test_a_source_is_never_replaced(folder, tmp_path):
    for force in (False, True):
        with pytest.raises(UsageError, match="holds the source"):
            prepare(str(folder), folder, force=force)
        with pytest.raises(UsageError, match="holds the source"):
            prepare(str(folder), tmp_path, force=force)
    assert len(list(folder.rglob("*.png"))) == 20


def test_known_names(folder, tmp_path):
    assert {"shapes", "pennfudan", "nuclei"} <= set(known())
    root = prepare("pennfudan", tmp_path / "out", source_path=folder)
    info = Dataset(root).info
    assert (info.name, info.names) == ("pennfudan", ["pedestrian"])
    assert "Wang" in info.citation
    with pytest.raises(DataError, match="nowhere") as caught:
        prepare("pennfudan", tmp_path / "out", source_path=tmp_path / "nowhere")
    with pytest.raises(DataError, match="shappes") as caught:
        prepare("shappes", tmp_path / "out")
    assert "'shapes'" in caught.value.hint
    with pytest.raises(DataError, match="prepared dataset already"):
        prepare(str(root), tmp_path / "again")


def test_next_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    usual = "custom/mask_rcnn"
    assert next_command("pennfudan", Path("data/pennfudan"), usual) == "segcli train pennfudan/mask_rcnn_lite"
    assert next_command("mine", Path("my data"), usual) == "segcli train custom/mask_rcnn --data 'my data'"
    advice = [
        {"topic": "", "advice": "", "why": "", "key": key, "value": value}
        for key, value in (("data.size", 640), ("eval.max_detections", 100), ("model.queries", 20))
    ]
    assert (
        next_command("mine", Path("x"), usual, advice) == "segcli train custom/mask_rcnn --data x --set data.size=640"
    )
    assert next_command("pennfudan", Path("x"), usual, advice) == "segcli train pennfudan/mask_rcnn_lite --data x"
    command = next_command("coco_pose_mini", Path("x"), "custom/keypoint_rcnn")
    assert command == "segcli train coco_pose_mini/keypoint_rcnn_lite --data x"
    assert next_command("nuclei", Path("data/nuclei"), f"{usual}_many_small") == "segcli train nuclei/mask_rcnn_lite"
    command = next_command("nuclei", Path("data/nuclei"), f"{usual}_many_small", itself=False)
    assert command == "segcli train nuclei/mask_rcnn_lite --data data/nuclei", "expected scores are of another dataset"


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_without_any_label_no_training_is_proposed(tmp_path, name):
    FORMATS[name](tmp_path / "in")
    for file in (tmp_path / "in").rglob("*"):
        if file.suffix == ".json":
            content = json.loads(file.read_text(encoding="utf-8"))
            file.write_text(json.dumps({**content, "annotations": []}), encoding="utf-8")
        elif file.suffix == ".txt" and file.parent.parent.name == "labels":
            file.write_text("", encoding="utf-8")
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert describe(root)["next"] == f"segcli prepare {root} --check"


def test_the_doctor_reads_sources(folder, tmp_path):
    shutil.copy(folder / "PNGImages/p1.png", folder / "PNGImages/p2.png")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / "PedMasks/p5_mask.png")
    (folder / "PNGImages/p4.png").write_bytes((folder / "PNGImages/p4.png").read_bytes()[:60])
    before = sorted(tmp_path.rglob("*"))
    report = diagnose(str(folder))
    assert report.root == str(folder)
    said = {f.code: [i.file_name or i.detail for i in f.items] for f in report.findings}
    assert said["image_unreadable"] == ["p4.png"]
    assert said["no_objects"] == ["p5.png"]
    assert said["left_out"] == ["1 masks are empty and left out: p5_mask.png"]
    assert not report.ok
    assert sorted(tmp_path.rglob("*")) == before  # nothing was written
    assert diagnose("shapes", settings=SMALL).ok


def test_the_doctor_reads_prepared_folders(tiny_dataset):
    assert diagnose(str(tiny_dataset)).ok


def test_the_doctor_lists_what_prepare_refuses(tmp_path):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    images = [{"id": i, "file_name": n, "width": 30, "height": 20} for i, n in enumerate(["a.png", "gone.png"])]
    broken = [
        {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[1.0, 2.0, 3.0]]},
        {"id": 2, "image_id": 0, "category_id": 8, "segmentation": [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]},
    ]
    content = {"images": images, "annotations": broken, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError):
        prepare(str(tmp_path), tmp_path / "out")
    report = diagnose(str(tmp_path))
    said = {f.code: [(i.file_name, i.annotation_id) for i in f.items] for f in report.findings if f.severity == "error"}
    assert said == {
        "image_missing": [("gone.png", None)],
        "malformed": [("a.png", 1)],
        "dangling_category": [("a.png", 2)],
    }


@pytest.mark.parametrize("given", ["data/mine/", "data/mine/.", "."])
def test_fix_writes_beside_the_folder_however_it_is_written(tiny_copy, tmp_path, monkeypatch, given):
    place = tmp_path / "here/data/mine"
    shutil.copytree(tiny_copy, place)
    monkeypatch.chdir(place if given == "." else tmp_path / "here")
    assert prepare(given, fix=True).resolve() == tmp_path / "here/data/mine-fixed"
    assert sorted(p.name for p in place.parent.iterdir()) == ["mine", "mine-fixed"]


def test_images_inside_labelme_files_are_checked_and_go_out(tmp_path):
    FORMATS["labelme"](tmp_path / "l")
    image, file = tmp_path / "l/train/a.png", tmp_path / "l/train/a.json"
    stored = base64.b64encode(image.read_bytes()).decode()
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"imageData": stored}), "utf-8")
    image.unlink()
    report = diagnose(str(tmp_path / "l"))
    assert (report.ok, report.images, report.annotations) == (True, 3, 6)
    assert export(str(tmp_path / "l"), "yolo", tmp_path / "out")["splits"] == {"train": 2, "val": 1}
    assert (tmp_path / "out/images/train/train/a.png").is_file()
    with pytest.raises(UsageError, match=r"--link: train/a\.png is no file of its own"):
        prepare(str(tmp_path / "l"), tmp_path / "x", link=True)


def test_tiles_go_out_and_what_check_would_ignore_is_refused(folder, segcli):
    result = segcli("prepare", folder, "--to", "coco", "--tile", "16", "--out", "out")
    assert result.code == 0, result.err
    assert segcli("prepare", "out", "--check", "--json").json["images"] == 40
    for flags in (["--out", "x"], ["--tile", "16"], ["--force"], ["--split", "train=1"], ["--link", "--overlap", "2"]):
        refused = segcli("prepare", folder, "--check", *flags)
        assert refused.code == 2
        assert all(flag in refused.error for flag in flags if flag.startswith("--"))
    assert segcli("prepare", folder, "--to", "coco", "--link").code == 2


@pytest.mark.parametrize("box", [{}, {"bbox": [0, 0, 9, 9]}])  # with a box, the order of the runs is looked at
@pytest.mark.parametrize(
    ("counts", "said"),
    [
        *[("QQ", "can't be decoded"), ("01", "covers 1 pixels of 600"), ([1], "covers 1 pixels of 600")],
        *[([-5, 605], "counts are not whole numbers"), ([2**40], "covers 1099511627776 pixels")],
        *[([0.5, 599.5], "counts are not whole numbers"), ([], "covers 0 pixels of 600")],
    ],
)
def test_a_malformed_rle_is_refused_before_anything_is_written(tmp_path, counts, said, box):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    rle = {"id": 5, "image_id": 0, "category_id": 1, "segmentation": {"size": [20, 30], "counts": counts}} | box
    images = [{"id": 0, "file_name": "a.png", "width": 30, "height": 20}]
    content = {"images": images, "annotations": [rle], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=f"a.png: annotation 5: its RLE {said}"):
        prepare(str(tmp_path), tmp_path / "out", split="train=1")
    assert not (tmp_path / "out").exists()


def test_a_recipe_gets_its_data(folder, tmp_path, capsys):
    root = tmp_path / "data/shapes"
    small = {f"data.prepare.{key}": value for key, value in SMALL.items()}
    recipe = Recipe.load("quickstart/mask_rcnn", overrides={"data.root": str(root), **small})
    assert prepare_for(recipe) == root
    assert "preparing shapes" in capsys.readouterr().err
    assert prepare_for(recipe) == root
    assert capsys.readouterr().err == ""
    other = Recipe.load("quickstart/mask_rcnn", overrides={"data.root": str(root), **small, "data.prepare.seed": 5})
    with pytest.raises(DataError, match=r"data\.prepare") as caught:
        prepare_for(other)
    assert "data.root" in caught.value.hint

    peds = {"data.root": str(tmp_path / "p")}
    recipe = Recipe.load("pennfudan/mask_rcnn_lite", overrides={**peds, "data.source": str(folder)})
    assert Dataset(prepare_for(recipe)).info.name == "pennfudan"

    mine = {"data.root": str(tmp_path / "mine")}
    with pytest.raises(DataError, match="not a prepared dataset") as caught:
        prepare_for(Recipe.load("custom/mask_rcnn", overrides=mine))
    assert "segcli prepare SOURCE --out" in caught.value.hint
    recipe = Recipe.load("custom/mask_rcnn", overrides={**mine, "data.source": str(folder)})
    assert len(Dataset(prepare_for(recipe))) == 10
