"""Text of other people's files, drawn: nothing in it stops the layout, disguises a name or is as wide as it likes."""

import numpy as np
import pytest
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.drawing import text
from segcli.drawing.chips import Chip, draw_chips
from segcli.drawing.overlays import draw
from segcli.drawing.sheets import contact_sheet, legend, text_panel
from segcli.drawing.text import LONGEST, draw_text, font, plain, shorten, text_width
from segcli.types import Instances, Prediction

HOSTILE = {
    "a line end": "a\nb\r\nc",
    "other ends of lines": "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b",
    "a tab": "\ta\tb",
    "terminal sequences": "\x1b]0;pwn\x07\x9b2J",
    "NUL and DEL": "a\x00b\x7f",
    "turned around": "\u202egnp.\u2066x\u2069\u200f",
    "half of a pair": "a\ud800b\udfff",
    "no characters": "\uffff\ufffe\U0010ffff",
    "marks on marks": "a" + "\u0300" * 500,
    "nothing": "",
    "long": "x" * 100_000,
    "another script": "잎\n사귀" * 10_000,
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_every_place_that_draws_text_takes_any_text(name):
    info = DatasetInfo("d", (Category("x" + name, 1), Category("y", 2)), {"val": 1})
    found = Instances(torch.tensor([[10.0, 10, 50, 50]]), torch.tensor([0]), torch.tensor([0.5]))
    image = np.full((64, 80, 3), 90, np.uint8)
    picture = draw(image, Prediction(1, (64, 80), found), info)
    sheet = contact_sheet([picture], [name], width=400, title=name)
    assert sheet.shape[1] == 400
    assert legend([*info.names], [(1, 2, 3)] * 2, 400).shape[1] == 400
    assert text_panel([f"{name}\t1", "b\t2"], 400).shape[1] == 400
    draw_text(image, name, 0, 0, 14, (255, 255, 255))
    assert text_width(shorten(name, 14, 120), 14) <= 120
    assert draw_chips(image, [Chip([name, "b"], (0, 0, 200), (10, 40, 70, 60))], 12) == 1


def test_what_is_hidden_in_a_name_is_written_out():
    assert plain("a\x1b[2Jb") == "a\\x1b[2Jb"
    assert plain("evil\u202egnp.exe") == "evil\\u202egnp.exe"
    assert plain("a\ud800") == "a\\ud800"
    assert plain("two\r\nlines\tand a tab") == "two lines and a tab"
    for kept in ("조이아", "a\u200db", "e\u0301", "שלום", "📷", " blanks  inside "):
        assert plain(kept) == kept
    assert len(plain("y" * 10**6)) == LONGEST
    assert plain("b" + "y" * 10**6 + "e")[0] + plain("b" + "y" * 10**6 + "e")[-1] == "be"


def test_a_class_with_many_scores_asks_for_its_typeface_once(monkeypatch):
    from matplotlib import font_manager

    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(font_manager, "findSystemFonts", lambda *_, **__: asked.append(1) or [])
        for memory in (text._source, text._others, font):
            memory.cache_clear()
        faces = {font(f"\U0001f98a\u3042 {score} %", 15) for score in range(40)}
    for memory in (text._source, text._others, font):
        memory.cache_clear()
    assert len(faces) == 1
    assert len(asked) == 1
