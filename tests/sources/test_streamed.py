"""A COCO file read in pieces is the file: the same annotations, the same refusals, whatever its size and its layout."""

import json
import random

import pytest

from segcli.core.errors import DataError
from segcli.sources import streamed
from segcli.sources.streamed import Streamed


def coco(rng, images=20, count=200):
    texts = ["", "plain", 'quo"te\\', "é" * 9, "🐈 ], {", "a\nb"]
    return {
        "info": {"description": rng.choice(texts), "version": 1.5, "none": None},
        "annotations": [
            {"id": i, "image_id": rng.randrange(images), "note": rng.choice(texts), "segmentation": [[0.5] * 6]}
            for i in range(count)
        ],
        "images": [{"id": i, "file_name": f"{rng.choice(texts)}{i}"} for i in range(images)],
        "categories": [{"id": 1, "name": "é"}],
        "last": 123,
    }


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("layout", [{}, {"ensure_ascii": False}, {"indent": 1}, {"separators": (",", ":")}])
def test_it_is_the_file(tmp_path, monkeypatch, chunk, layout):
    monkeypatch.setattr(streamed, "CHUNK", chunk)
    rng = random.Random(chunk)
    data = coco(rng, count=40 if chunk == 1 else 200)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data, **layout), encoding="utf-8-sig" if rng.random() < 0.5 else "utf-8")
    found = Streamed(path)
    assert {**found.head, "annotations": data["annotations"]} == data
    with open(path, "rb") as file:
        for image in range(20):
            own = [a for a in data["annotations"] if a["image_id"] == image]
            assert found.read(found.positions(image), file) == own
        lost = found.read(found.without_image(range(0, 20, 2)), file)
    assert lost == [a for a in data["annotations"] if a["image_id"] % 2]


@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_what_json_refuses_is_refused(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(streamed, "CHUNK", chunk)
    rng = random.Random(1)
    whole = json.dumps(coco(rng, images=2, count=2))
    path = tmp_path / "a.json"
    refused = 0
    for _ in range(150):
        at = rng.randrange(len(whole))
        text = rng.choice([whole[:at], whole[:at] + rng.choice('{}[],:"0 x') + whole[at + 1 :], whole + "x"])
        path.write_text(text, encoding="utf-8")
        try:
            data = json.loads(text)
        except ValueError:
            with pytest.raises(DataError, match=r"a\.json: not valid JSON"):
                Streamed(path)
            refused += 1
            continue
        lists = [data.get(key) for key in ("images", "annotations", "categories")]
        if all(isinstance(x, list) and all(isinstance(i, dict) for i in x) for x in lists):
            assert Streamed(path).head["images"] == data["images"]
        else:
            with pytest.raises(DataError, match=r"a\.json"):
                Streamed(path)
    assert refused > 50


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}"])
def test_what_is_no_coco_file(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.json: not"):
        Streamed(path)


def test_image_ids_that_are_none(tmp_path):
    """They belong to no image; a list can't even be looked up."""
    ids = [1, [1], None, {"a": 1}, 2.0, "1", 7]
    data = {
        "images": [{"id": 1}],
        "categories": [],
        "annotations": [{"id": i, "image_id": x} for i, x in enumerate(ids)],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    found = Streamed(path)
    assert found.positions(1).tolist() == [0]
    assert found.positions(5).tolist() == []
    assert found.without_image([1]).tolist() == [1, 2, 3, 4, 5, 6]


def test_a_file_that_changes_meanwhile(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco(random.Random(0))), encoding="utf-8")
    found = Streamed(path)
    path.write_text("x" * 9000, encoding="utf-8")
    with open(path, "rb") as file, pytest.raises(DataError, match="changed while it was read"):
        found.read(found.positions(0), file)
