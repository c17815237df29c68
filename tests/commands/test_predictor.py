"""`segcli.load`: one image or many, by path, PIL or array; predictions that show themselves."""

import dataclasses

import numpy as np
import pytest
from bright import INFO, RECIPE, Bright, photo
from PIL import Image

import segcli
from segcli.commands.predictor import Predictor
from segcli.core.errors import DataError, UsageError


@pytest.fixture
def predictor():
    return Predictor(Bright(), RECIPE, INFO)


def test_a_predictor_takes_paths_and_arrays_in_one_call(tmp_path, predictor):
    pixels = photo(tmp_path / "a.png")
    from_file, from_array, *_ = predictor([tmp_path / "a.png", pixels, str(tmp_path / "a.png"), pixels])
    assert predictor.model.batches == [3, 1]
    assert from_file.size == (40, 48)
    assert np.array_equal(from_file.instances.mask(0), from_array.instances.mask(0))
    assert from_file.instances.mask(0)[15, 15]
    assert not from_file.instances.mask(0)[5, 5]
    assert [p.image_id for p in predictor([pixels, pixels])] == [0, 1]
    assert predictor([]) == []


def test_a_predictor_refuses_what_is_not_an_image(tmp_path, predictor):
    with pytest.raises(DataError, match=r"missing\.png"):
        predictor([tmp_path / "missing.png"])
    with pytest.raises(UsageError, match="image 1 is float32") as caught:
        predictor([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32)])
    assert "PIL.Image.open" in caught.value.hint


def test_one_image_gives_one_prediction_however_it_is_given(tmp_path, predictor):
    pixels = photo(tmp_path / "a.png")
    for picture in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels, Image.fromarray(pixels)):
        one = predictor(picture, score=0.5)
        assert one.instances.scores.tolist() == pytest.approx([0.9])
        assert np.array_equal(one.instances.mask(0), predictor([pixels])[0].instances.mask(0))
    turned = Image.fromarray(np.rot90(pixels).copy())
    turned.getexif()[0x0112] = 6  # to be shown turned by a quarter: as the file reader does it
    assert predictor(turned).size == pixels.shape[:2]


def test_pil_images_of_more_than_8_bits_are_read_as_their_file(tmp_path, predictor):
    info = dataclasses.replace(INFO, value_range=(0.0, 4095.0))
    toy = Predictor(Bright(), RECIPE, info)
    values = np.linspace(0, 4095, 40 * 48).reshape(40, 48).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    of_file, of_pil = toy([tmp_path / "a.png", Image.open(tmp_path / "a.png")])
    assert np.array_equal(of_file.instances.mask(0), of_pil.instances.mask(0))
    assert 0.2 < of_pil.instances.mask(0).mean() < 0.9
    with pytest.raises(UsageError, match="image 0: its 32-bit floats have no fixed brightness range"):
        Predictor(Bright(), RECIPE, INFO)(Image.fromarray(values.astype(np.float32)))


def test_a_prediction_in_a_notebook(tmp_path, predictor):
    pixels = photo(tmp_path / "a.png")
    one = predictor(pixels)
    assert repr(one) == "<Prediction: 2 objects (고양이 0.90, dog 0.40) on 48 × 40 pixels>"
    assert repr(predictor) == "<Predictor toy: fake, task instance, classes 고양이, dog>"
    picture = one.draw(score=0.5)
    assert isinstance(picture, Image.Image)
    assert picture.width % 48 == 0
    assert not np.array_equal(np.asarray(picture.resize((48, 40), Image.Resampling.NEAREST)), pixels)
    first, second = one.to_coco()
    assert (first["category_id"], second["category_id"], first["bbox"][2:]) == (17, 3, [48, 40])
    table = one.to_dataframe()
    assert table.columns.tolist() == ["label", "score", "x1", "y1", "x2", "y2", "area"]
    assert table.label.tolist() == ["고양이", "dog"]
    assert table.area[1] == 20 * 24


@pytest.mark.parametrize(("kind", "says"), [("semantic", "a label map"), ("panoptic", "1 segment on")])
def test_maps_have_no_objects_to_list(tmp_path, kind, says):
    one = Predictor(Bright(kind), RECIPE, INFO)(photo(tmp_path / "a.png"))
    assert says in repr(one)
    assert one.draw()
    for ask in (one.to_coco, one.to_dataframe):
        with pytest.raises(UsageError, match="maps and no objects"):
            ask()


def test_load_gives_a_predictor(monkeypatch):
    class Opened:
        model, recipe, info, path = Bright(), RECIPE, INFO, None

    monkeypatch.setattr("segcli.commands.predictor.open_model", lambda source, **_: Opened)
    assert isinstance(segcli.load("runs/x"), Predictor)
