"""`predict --save texture` and `--texture`: what people wear goes to files, and from a file onto people."""

import numpy as np
import pytest
import torch
from bright import INFO, RECIPE, Bright, photo
from PIL import Image

from segcli.commands.predict.files import predict_files
from segcli.commands.predictor import Predictor
from segcli.core.errors import DataError, UsageError
from segcli.fields.body_surface import Surface
from segcli.fields.densepose import DensePose


class Person(Bright):
    """Says that the left half of the image is chart 1 of a person, upright on it, and nothing of a second one."""

    fields = ("densepose",)

    def one(self, batch, i):
        found = super().one(batch, i)
        own = torch.zeros(3, 20, 24, dtype=torch.uint8)
        own[0, :, :12] = 1
        own[1], own[2] = torch.linspace(0, 255, 24), torch.linspace(255, 0, 20)[:, None]
        maps = [own, torch.zeros(3, 1, 1, dtype=torch.uint8)]
        found.instances.fields["densepose"] = DensePose.predicted(maps, found.instances.boxes, Surface())
        return found


def test_a_texture_is_saved_of_everybody_and_put_onto_others(tmp_path):
    predictor = Predictor(Person("detection"), RECIPE, INFO)
    pixels = photo(tmp_path / "a.png", 40, (5, 15))
    predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", score=0.3, save=["texture"], progress=False)
    assert [f.name for f in (tmp_path / "out" / "textures" / "a").iterdir()] == ["1.png"], (
        "of the second is nothing seen"
    )
    worn = np.asarray(Image.open(tmp_path / "out" / "textures" / "a" / "1.png"))
    assert worn.shape == (768, 512, 4)
    assert {*worn[:128, :60, 0].ravel().tolist()} == {30, 250}
    assert not worn[128:, :, 3].any()

    photo(tmp_path / "b.png", 40, (30, 38))
    worn = tmp_path / "out" / "textures" / "a" / "1.png"
    other = tmp_path / "other"
    predict_files(predictor, [tmp_path / "b.png"], other, save=["overlay"], texture=worn, progress=False)
    picture = np.asarray(Image.open(other / "overlays" / "b.jpg")).astype(int)
    assert picture.shape == (40, 48, 3), "the image itself, with another texture"
    assert np.abs(picture[7:13, 7:13] - pixels[7:13, 7:13]).max() < 60, "the bright square of the other image"
    assert picture[32:36, 32:36].min() > 220, "what is nobody stays"


def test_textures_are_refused_where_they_can_not_be(tmp_path):
    photo(tmp_path / "a.png")
    plain, people = Predictor(Bright(), RECIPE, INFO), Predictor(Person("detection"), RECIPE, INFO)

    def refused(predictor, **how):
        with pytest.raises((UsageError, DataError)) as caught:
            predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", progress=False, **how)
        assert not (tmp_path / "out").exists(), "before any work"
        return str(caught.value)

    assert "--save texture: this model finds no body surface" in refused(plain, save=["texture"])
    assert "--texture: this model finds no body surface" in refused(plain, texture=tmp_path / "a.png")
    assert "--texture goes with --save overlay" in refused(people, save=["coco"], texture=tmp_path / "a.png")
    assert "a.png: a texture of 24 charts" in refused(people, texture=tmp_path / "a.png")
