"""`segcli predict` on whatever lies in a folder: all kinds of images are read alike; what is none is named."""

import io
import json

import numpy as np
import pytest
from PIL import Image

ORIENTATION = 0x0112


@pytest.fixture
def predict(segcli, trained):
    """`predict("photo.png", ...)` -> Result of `segcli predict` with the tiny run, every detection kept."""
    run = trained / "runs" / "tiny run"
    return lambda *inputs: segcli("predict", run, *inputs, "--score", "0", "--out", "out", "--json")


def blocks(height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 RGB of few colours, so that palettes hold it without loss."""
    image = np.full((height, width, 3), (110, 120, 100), np.uint8)
    image[8:28, 10:30] = (220, 60, 40)
    image[20:44, 36:60] = (40, 90, 230)
    return image


def encoded(kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).save(data, kind)
    return data.getvalue()


BROKEN = {
    "empty.png": b"",
    "no image.jpg": b"<html>404</html>",
    "잘린 파일 ✂️.png": encoded("PNG")[:4000],
    "cut off.jpg": encoded("JPEG")[:1500],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_alone_is_a_data_error_that_names_it(predict, tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    result = predict(name)
    assert result.code == 3
    assert name in result.error


def test_what_is_missing_is_refused_before_any_work(predict, tmp_path):
    Image.fromarray(blocks()).save(tmp_path / "good.png")
    result = predict("good.png", "없는 사진.png")
    assert result.code == 3
    assert "없는 사진.png" in result.error
    assert not (tmp_path / "out").exists()


def test_broken_files_cost_only_themselves(predict, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    for name in ("a.png", "z.png"):
        Image.fromarray(blocks()).save(folder / name)
    result = predict("in")
    assert result.code == 0
    assert result.json["images"] == 2
    assert {f["file"] for f in result.json["failed"]} == {f"in/{name}" for name in BROKEN}
    assert all(name in result.err for name in BROKEN)
    assert {p.name for p in (tmp_path / "out" / "overlays").iterdir()} == {"a.jpg", "z.jpg"}


def write_kinds(folder) -> None:
    """One picture as every kind of file that holds it without loss, and its grey version as such."""
    rgb = blocks()
    image, grey = Image.fromarray(rgb), Image.fromarray(rgb).convert("L")
    other = Image.fromarray(rgb[::-1].copy())
    sideways = Image.Exif()
    sideways[ORIENTATION] = 6  # "turn me right to see me": stored turned left
    grey.convert("RGB").save(folder / "grey plain.png")
    grey.save(folder / "grey 8.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "grey 16 📷.png")
    image.save(folder / "colour plain.png")
    image.save(folder / "colour 사진.bmp")
    image.convert("RGBA").save(folder / "colour alpha.png")
    image.convert("CMYK").save(folder / "colour print.tif")
    image.quantize(16).save(folder / "colour palette.png")
    moving = {"save_all": True, "append_images": [other], "duration": 100}
    image.save(folder / "colour moving.webp", lossless=True, **moving)
    image.quantize(16).save(folder / "colour moving.gif", **moving)
    image.rotate(90, expand=True).save(folder / "colour turned.png", exif=sideways)


def test_every_kind_of_image_gives_the_predictions_of_its_pixels(predict, tmp_path):
    folder = tmp_path / "사진 모음 📁"
    folder.mkdir()
    write_kinds(folder)
    result = predict(folder.name)
    assert result.code == 0
    assert result.json["failed"] == []
    data = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert {(i["height"], i["width"]) for i in data["images"]} == {(48, 64)}
    found = {i["file_name"].split("/")[-1]: [] for i in data["images"]}
    assert len(found) == 11
    for entry in data["annotations"]:
        name = data["images"][entry["image_id"] - 1]["file_name"].split("/")[-1]
        found[name].append({k: v for k, v in entry.items() if k not in ("id", "image_id")})
    for name, entries in found.items():
        plain = found[f"{name.split()[0]} plain.png"]
        assert len(plain) > 0
        assert entries == plain, name
    assert found["grey plain.png"] != found["colour plain.png"]


@pytest.mark.parametrize("size", [(300, 20000), (20000, 3)])
def test_twenty_thousand_pixels(predict, tmp_path, size):
    Image.fromarray(np.tile(blocks(), (-(-size[0] // 48), -(-size[1] // 64), 1))[: size[0], : size[1]]).save(
        tmp_path / "scan.png", compress_level=1
    )
    result = predict("scan.png")
    assert result.code == 0, result.err
    assert result.json["images"] == 1
    with Image.open(tmp_path / "out" / "masks" / "scan.png") as mask:
        assert mask.size == size[::-1]
