"""Sheets of many pictures."""

import numpy as np
import pytest
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.drawing.sheets import (
    PAPER,
    _counted,
    cell_width,
    choose_columns,
    contact_sheet,
    draw_labels_beside_predictions,
    legend,
)
from segcli.types import Instances, Prediction, Target

INFO = DatasetInfo("one", (Category("cat", 1), Category("dog", 2)), {"val": 1})


def test_every_picture_is_on_the_sheet_with_room_for_its_caption():
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (200, 200, 10), (10, 200, 200)]
    shapes = [(100, 150), (300, 150), (50, 400), (120, 120), (900, 90)]
    pictures = [np.full((*s, 3), c, np.uint8) for s, c in zip(shapes, colours, strict=True)]
    captions = [f"사진 {i} " + "long " * 40 for i in range(5)]
    sheet = contact_sheet(pictures, captions, columns=2, width=800, title="five pictures " * 20)
    assert sheet.shape[1] == 800
    boxes = []
    for colour, (h, w) in zip(colours, shapes, strict=True):
        rows, columns = np.nonzero((np.abs(sheet.astype(int) - colour) < 6).all(2))
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        width, height = columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()
        assert width / height == pytest.approx(w / h, rel=0.05), "proportions are kept"
        below = sheet[rows.max() + 2 : rows.max() + 26, columns.min() : columns.max()]
        assert (below != PAPER).any(), "a caption"
    assert boxes[0][1] == boxes[1][1] < boxes[2][1] == boxes[3][1] < boxes[4][1]


def test_a_sheet_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], [])


def test_columns_follow_number_and_shape():
    assert choose_columns([(100, 100)]) == 1
    assert choose_columns([(100, 100)] * 16) == 4
    assert choose_columns([(100, 400)] * 16) < choose_columns([(400, 100)] * 16) <= 6
    assert cell_width(1000, 4) * 4 < 1000


def test_labels_and_predictions_stand_side_by_side():
    image = np.zeros((100, 150, 3), np.uint8)
    box = torch.tensor([[20.0, 20, 80, 80]])
    target = Target(1, (100, 150), Instances(box, torch.tensor([0])))
    found = Prediction(1, (100, 150), Instances(box, torch.tensor([1]), torch.tensor([0.4])))
    pair = draw_labels_beside_predictions(image, target, found, INFO, score=0.5, width=606)
    assert abs(pair.shape[1] - 606) <= 1
    head = pair.shape[0] - 200
    assert pair[head:, :300].max() > 100, "the label"
    assert pair[head:, 306:].max() == 0, "the prediction is below the score"
    pair = draw_labels_beside_predictions(image, target, found, INFO, score=0.3, width=606)
    assert pair[head:, 306:].max() > 100


def test_a_prediction_has_the_colour_of_its_label():
    image = np.zeros((200, 480, 3), np.uint8)
    one, two = [20.0, 20, 120, 180], [300.0, 20, 400, 180]
    info = DatasetInfo("single", (Category("cat", 1),), {"val": 1})
    target = Target(1, (200, 480), Instances(torch.tensor([one, two]), torch.tensor([0, 0])))
    found = Instances(torch.tensor([two, one]), torch.tensor([0, 0]), torch.tensor([0.9, 0.8]))
    pair = draw_labels_beside_predictions(image, target, Prediction(1, (200, 480), found), info, width=966)
    left, right = pair[-200:, :480], pair[-200:, -480:]
    for x in (70, 350):  # the lower edge of either box, where there is no text
        edges = [part[174:186, x].reshape(-1, 3) for part in (left, right)]
        assert np.array_equal(edges[0], edges[1])
        assert edges[0].max() > 100
    assert not np.array_equal(left[174:186, 70], left[174:186, 350])


def test_a_panel_without_detections_says_how_near_the_best_one_is():
    found = Prediction(1, (9, 9), Instances(torch.ones(2, 4), torch.zeros(2).long(), torch.tensor([0.48, 0.2])))
    assert _counted("predicted", found, 0.5) == "predicted: 0 (best score 48 %)"
    assert _counted("predicted", found, 0.3) == "predicted: 1"


def test_a_legend_wraps_and_shows_each_colour():
    names, colours = [f"class number {i}" for i in range(20)], [(i * 12, 255 - i * 12, 90) for i in range(20)]
    strip = legend(names, colours, 500)
    assert strip.shape[1] == 500
    assert strip.shape[0] > 100
    for colour in colours:
        assert (strip == colour).all(2).sum() > 100
