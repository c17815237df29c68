"""Which images are chosen to be labelled next, and why."""

import csv

import numpy as np
import pytest
import torch
from bright import INFO, RECIPE, Bright
from PIL import Image

from segcli.commands.predict.uncertain import most_uncertain, write_reasons
from segcli.commands.predictor import Predictor
from segcli.types import Instances, Prediction, encode_masks


class Told(Bright):
    """Says what the brightness of an image's first pixel asks for; a mirrored batch has its bright stripe elsewhere."""

    def one(self, batch, i):
        size = batch.original_sizes[i]
        mean, std = self.preprocess.mean[0], self.preprocess.std[0]
        value = batch.images[i, 0] * std + mean
        w = batch.sizes[i][1]
        mirrored = float(value[0, 0]) < 0.02
        kind = round(255 * float(value[0, w - 1] if mirrored else value[0, 0]))
        masks = np.zeros((1, *size), bool)
        masks[0, 5:20, 5:20] = True
        scores, labels = {50: (0.95, 0), 100: (0.5, 0), 150: (0.95, 0), 200: (0.9, 1), 250: (0.0, 0)}[kind]
        turned = (
            masks[:, :, ::-1] if mirrored and kind != 150 else masks
        )  # 150: the same place in both, so not the same
        boxes = torch.tensor([[5.0, 5, 20, 20]])
        found = Instances(boxes, torch.tensor([labels]), torch.tensor([scores]), masks=encode_masks(turned))
        return Prediction(batch.image_ids[i], size, found)


def told(path, kind, seed):
    pixels = np.random.default_rng(seed).integers(0, 200, (64, 64, 3)).astype(np.uint8)
    pixels[:4] = 0
    pixels[0, 0], pixels[0, -1] = kind, 0
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def toy():
    return Predictor(Told(), RECIPE, INFO)


def test_the_unsure_the_contradictory_and_the_rare_come_first(tmp_path, toy):
    kinds = {"sure": 50, "sure2": 50, "unsure": 100, "mirror": 150, "rare": 200, "nothing": 250}
    files = [told(tmp_path / f"{name}.png", kind, i) for i, (name, kind) in enumerate(kinds.items())]
    (tmp_path / "bad.png").write_text("x")
    failed = []
    chosen = most_uncertain(toy, [*files, tmp_path / "bad.png"], 4, failed, progress=False)
    assert [path.name for path, _ in failed] == ["bad.png"]
    reasons = {one.file.stem: one.why(INFO.names) for one in chosen}
    assert reasons == {
        "mirror": "its mirror image gives another prediction",
        "rare": "it may show a rare class, dog",
        "unsure": "its scores are neither high nor low",
        "nothing": "nothing is found",
    }
    write_reasons(chosen, tmp_path, INFO.names)
    rows = list(csv.DictReader((tmp_path / "uncertain.csv").open(encoding="utf-8-sig")))
    assert [float(row["sum"]) for row in rows] == sorted((float(row["sum"]) for row in rows), reverse=True)


def test_of_images_that_look_alike_one_is_taken(tmp_path, toy):
    files = [told(tmp_path / f"{i}.png", 100, seed) for i, seed in enumerate((1, 1, 1, 2))]
    chosen = most_uncertain(toy, files, 4, [], progress=False)
    assert sorted(one.file.name for one in chosen) == ["0.png", "3.png"]


def test_maps_are_compared_pixel_by_pixel(tmp_path):
    symmetric = np.full((64, 64, 3), 30, np.uint8)
    symmetric[20:40, 22:42] = 250
    Image.fromarray(symmetric).save(tmp_path / "same.png")

    class OneSided(Bright):
        def one(self, batch, i):
            found = super().one(batch, i)
            found.semantic[:, :32] = 0  # the left half is never seen
            return found

    (one,) = most_uncertain(
        Predictor(OneSided("semantic"), RECIPE, INFO), [tmp_path / "same.png"], 1, [], progress=False
    )
    assert one.disagreement == pytest.approx(20 * 20 / 64**2, abs=0.02)
    assert one.why(INFO.names) == "its mirror image gives another prediction"
