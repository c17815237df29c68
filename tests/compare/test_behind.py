"""The report's section on what lies behind the scores: counted from what is stored, shown where one clicks."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from segcli.compare.behind import _objects, _pixels
from segcli.types import Instances, Prediction, Target

PLACES = torch.tensor([[0.0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60]])


@pytest.fixture
def page(segcli, trained, tmp_path):
    """The report of the tiny run as (file, its data)."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    done = segcli("compare", "runs/tiny run", "--html", "c.html")
    assert done.code == 0, done.err
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    return tmp_path / "c.html", json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def test_boxes_and_masks_have_all_parts(page):
    [one] = page[1]["groups"][0]["behind"].values()
    assert one["classes"] == ["cat", "dog", "none"]
    assert [kind["title"] for kind in one["kinds"]] == ["box", "mask"]
    for kind in one["kinds"]:
        assert np.array(kind["confusion"])[:2].sum() == 3  # the val split's objects
        assert kind["tide"].keys() == {"lost", "counts"}
    assert sum(images for _, images, _ in one["crowding"]) == 2
    missed = [pictures for cell, pictures in one["examples"].items() if cell.endswith(",2")]
    assert sum(map(len, missed)) <= 3
    assert all(re.match("/9j/", jpeg) for pictures in one["examples"].values() for jpeg, _ in pictures)


def test_a_cell_shows_its_images(page, browser):
    browser.open(page[0], 1200, 900)
    shown = "return document.querySelectorAll('#errors .examples img').length"
    assert browser.run(shown) == 0
    [one] = page[1]["groups"][0]["behind"].values()
    mistaken = [key for key in one["examples"] if len(set(key.split(","))) == 2]
    assert mistaken  # after three steps of training
    for key in one["examples"]:
        row, column = map(int, key.split(","))
        cell = f"#errors .matrix tbody tr:nth-child({row + 1}) td:nth-child({column + 2}) .cell"
        browser.run(f"document.querySelector('{cell}').click()")
        said = browser.run("return document.querySelector('#errors .examples p').textContent")
        assert said.startswith(f"labelled {one['classes'][row]}, predicted {one['classes'][column]}: ")
        assert browser.run(shown) == len(one["examples"][key])
        large = "return [...document.querySelectorAll('#errors .examples img')].every((i) => i.naturalWidth > 30)"
        assert browser.run(large)
    assert browser.complaints() == []


def test_detections_without_objects_and_objects_without_detections():
    truth = Target(0, (64, 64), Instances(PLACES, torch.tensor([0, 1, 1])))
    found = torch.cat([PLACES[:2], torch.tensor([[30.0, 30, 50, 50]]), PLACES[2:]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.4])  # the last one is not counted
    prediction = Prediction(0, (64, 64), Instances(found, torch.tensor([1, 1, 0, 1]), scores))
    cells = [cell for cell, _ in _objects(0, truth, prediction, 2)]
    assert cells == [(0, 1), (1, 1), (2, 0), (1, 2)]


def test_the_best_detection_takes_the_object_in_whatever_order_they_stand():
    truth = Target(0, (64, 64), Instances(PLACES[:1], torch.tensor([0])))
    both = Instances(PLACES[[0, 0]], torch.tensor([1, 0]), torch.tensor([0.6, 0.9]))
    cells = [cell for cell, _ in _objects(0, truth, Prediction(0, (64, 64), both), 2)]
    assert cells == [(0, 0), (2, 1)]


def test_a_detection_inside_a_crowd_is_no_mistake():
    crowd = Instances(torch.tensor([[0.0, 0, 60, 60]]), torch.tensor([0]), crowd=torch.tensor([True]))
    found = Instances(PLACES[:1], torch.tensor([0]), torch.tensor([0.9]))
    assert not [*_objects(0, Target(0, (64, 64), crowd), Prediction(0, (64, 64), found), 2)]


def test_regions_of_pixels_taken_for_another_class():
    truth, answer = torch.zeros(8, 8, dtype=torch.int64), np.zeros((8, 8), np.uint8)
    truth[0] = 255
    answer[0:4, 2:6] = 1
    cells = dict(_pixels(3, Target(3, (8, 8), Instances.empty(), truth), Prediction(3, (8, 8), semantic=answer), 2))
    assert cells[0, 1].predicted == [2, 1, 6, 4]
    assert cells[0, 1].weight == 12
