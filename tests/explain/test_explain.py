"""`segcli visualize explain` as it is used: its files, its errors, its page in a browser."""

import shutil

import cv2
import numpy as np
import pytest

IMAGE = "data/tiny/images/five.png"  # of the val split, with two objects


@pytest.fixture
def run(segcli, trained, tmp_path):
    """The tiny run beside its data, in the working folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return "runs/tiny run"


def test_a_png_a_view_and_one_page(segcli, run, tmp_path):
    done = segcli("visualize", "explain", run, "--image", IMAGE, "-q")
    assert done.code == 0, done.err
    files = [tmp_path / line for line in done.out.splitlines()]
    names = [file.name for file in files]
    assert names[0] == "explain-five.html"
    assert {f"explain-five-{name}.png" for name in ("features", "proposals", "roi_align", "mask_channels")} <= {*names}
    assert {file.parent for file in files} == {tmp_path / run / "pictures"}
    page = files[0].read_text(encoding="utf-8")
    assert 'src="http' not in page
    again = segcli("visualize", "explain", run, "--image", IMAGE, "--what", "paste", "-q")
    assert [line.rpartition("/")[2] for line in again.out.splitlines()] == [
        "explain-five.html",
        "explain-five-paste.png",
    ]


def test_errors_say_what_there_is(segcli, run, tmp_path):
    unknown = segcli("visualize", "explain", run, "--image", IMAGE, "--what", "roi_allign")
    assert (unknown.code, "roi_align" in unknown.err) == (2, True)
    lacking = segcli("visualize", "explain", run, "--image", IMAGE, "--what", "entropy")
    assert lacking.code == 2
    assert "this model has no such view" in lacking.error
    assert "features, proposals, roi_align" in lacking.err
    missing = segcli("visualize", "explain", run, "--image", "no.png")
    assert missing.code == 3
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "explain-five.html").write_text("mine")
    kept = segcli("visualize", "explain", run, "--image", IMAGE, "--out", "kept")
    assert kept.code == 3
    assert (tmp_path / "kept" / "explain-five.html").read_text() == "mine"
    (tmp_path / run / "checkpoints" / "last.pt").unlink()
    for path in (tmp_path / run / "checkpoints").iterdir():
        path.unlink()
    early = segcli("visualize", "explain", run, "--image", IMAGE)  # a training before its first checkpoint
    assert early.code == 4


def test_the_same_view_over_time(segcli, run, tmp_path):
    once = segcli("visualize", "explain", run, "--image", IMAGE, "--what", "proposals", "-q")
    done = segcli("visualize", "explain", run, "--image", IMAGE, "--what", "proposals", "--over-time", "-q")
    assert done.code == 0, done.err
    page, picture = (tmp_path / line for line in done.out.splitlines())
    assert picture.name == "explain-five-over-time-proposals.png"
    text = page.read_text(encoding="utf-8")
    assert '"step 0"' in text
    assert '"step 3"' in text
    alone = cv2.imread(str(tmp_path / once.out.splitlines()[1]))
    assert cv2.imread(str(picture)).shape[0] > 1.7 * alone.shape[0]


def test_an_image_of_ten_thousand_pixels_width(segcli, run, tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((300, 10_000, 3), 128, np.uint8))
    done = segcli("visualize", "explain", run, "--image", "wide.png", "--out", "w", "-q")
    assert done.code == 0, done.err
    assert cv2.imread(str(tmp_path / "w" / "explain-wide-proposals.png")).shape[1] == 1600


def test_the_page_in_a_browser(segcli, run, tmp_path, browser):
    segcli("visualize", "explain", run, "--image", IMAGE, "-q")
    for dark in (False, True):
        browser.open(tmp_path / run / "pictures" / "explain-five.html", 1200, 900, dark=dark)
        shown = browser.run("return [...document.querySelectorAll('section')].map((s) => s.id)")
        assert shown[:3] == ["features", "proposals", "roi_align"]
        browser.run(
            "const s = document.querySelector('#proposals select'); s.value = 0; s.dispatchEvent(new Event('change'))"
        )
        count = "return document.querySelectorAll('#proposals .box-shown').length"
        before = browser.run(count)
        browser.run(
            "const s = document.querySelector('#proposals input'); s.value = 1; s.dispatchEvent(new Event('input'))"
        )
        assert browser.run(count) == 1 < before
        loaded = browser.run(
            "return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).length"
        )
        assert loaded == 0
    assert browser.complaints() == []
