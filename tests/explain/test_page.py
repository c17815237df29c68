"""The page of `segcli visualize explain`, driven in a browser: what one clicks at is what the model computed."""

import base64

import cv2
import numpy as np
import pytest
from batches import LAYERS
from explained import LITE, PIXELS, SMALL, opened

from segcli.explain.explain import look, views_named
from segcli.explain.page import Section, explain_page

STRIP = np.repeat(PIXELS[:8], 8, 1)
MESH = {"name": "rcnn_lite", **LITE, "heads": {"iou_box": {}, "lite_mesh": {"grid": 4, "stages": 2}}}


@pytest.fixture
def show(browser, tmp_path):
    """show(task, model, views) opens the page of an untrained model -> (its scene, what each view has to show)."""

    def open_page(task, settings, *names, pixels=PIXELS):
        scene = look(opened(task, settings), pixels, None, 0.5)
        sections = [Section(name, view, view.shown(scene)) for name, view in views_named(names).items()]
        text = explain_page("a page", scene, sections)
        assert len(text) < 10e6
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        browser.complaints()
        browser.open(tmp_path / "page.html", 1200, 900)
        return scene, {section.name: section.shown for section in sections}

    yield open_page
    loaded = "return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith('data:'))"
    assert browser.run(loaded) == []
    warned = ("WebGL", "GL Driver", "Canvas2D")  # what plotly's 3D says without a graphics card
    assert [line for line in browser.complaints() if not any(word in line for word in warned)] == []


def overlay(browser, view):
    """[h,w] 0..1: the map that lies over a view's image, read from how opaque it is."""
    href = browser.run(f"return document.querySelectorAll('#{view} svg image')[1].getAttribute('href')")
    rgba = cv2.imdecode(np.frombuffer(base64.b64decode(href.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    return np.clip((rgba[..., 3] / 255 - 0.12) / 0.8, 0, 1) ** (1 / 0.6)


def same(shown_hw, computed_hw):
    np.testing.assert_allclose(shown_hw, (computed_hw / computed_hw.max()).numpy(), atol=0.015)


def test_a_click_at_a_point_shows_where_its_token_looks(show, browser):
    scene, _ = show("detection", {"name": "detr", **SMALL}, "self_attention")
    attention = scene.tensor("encoder_attention")[0].mean(0)  # [T,h,w]
    rows, columns = scene.content(attention).shape[1:]
    down, across = (side / cover for side, cover in zip(scene.size, scene.covered(attention), strict=True))
    seen = []
    for y, x in ((0.1, 0.1), (0.85, 0.6), (0.4, 0.95)):
        browser.click("#self_attention svg", x, y)
        row, column = int(y * down * rows), int(x * across * columns)
        seen.append(overlay(browser, "self_attention"))
        same(seen[-1], scene.content(attention[row * attention.shape[2] + column]))
        note = browser.run("return document.querySelector('#self_attention .chosen').textContent")
        assert note.startswith(f"cell {column + 1} of row {row + 1} ")
    assert not np.allclose(seen[0], seen[1], atol=0.03)


def test_cells_that_reach_beyond_a_strip_are_marked_inside_it(show, browser):
    scene, shown = show("detection", {"name": "detr", **SMALL}, "self_attention", pixels=STRIP)
    attention = scene.tensor("encoder_attention")
    assert scene.covered(attention)[0] > 3 * scene.size[0]
    blue = (np.abs(shown["self_attention"].pictures[0].pixels.astype(int) - (90, 200, 255)) < 30).all(2)
    assert blue.sum() > 20
    mark = browser.run("return document.querySelector('#self_attention circle').getAttribute('cy')")
    assert 0 < float(mark) < scene.size[0]


def test_arrows_step_from_cell_to_cell(show, browser):
    show("detection", {"name": "detr", **SMALL}, "positions")
    chosen = "return Number(document.querySelector('#positions svg').dataset.chosen)"
    before = browser.run(chosen)
    browser.click("#positions [aria-label=next]")
    assert browser.run(chosen) == before + 1


def choose(browser, view, number):
    browser.run(f"const s = document.querySelector('#{view} select'); s.value = {number};"
                "s.dispatchEvent(new Event('change'))")  # fmt: skip


def test_a_chosen_query_shows_its_mask(show, browser):
    settings = {"name": "maskformer", **SMALL, "transformer": LAYERS}
    scene, shown = show("instance", settings, "query_masks")
    masks, order = scene.content(scene.tensor("mask_logits")[0]).sigmoid(), scene.queries()[0].tolist()
    names = [*shown["query_masks"].widgets[0].names]
    listed = "return [...document.querySelectorAll('#query_masks option')].map((o) => o.textContent)"
    assert browser.run(listed) == names
    for k in (1, len(order) - 1):
        choose(browser, "query_masks", k)
        same(overlay(browser, "query_masks"), masks[order[k]])
        assert names[k].startswith(f"query {order[k] + 1}: ")


def test_a_click_at_an_object_shows_where_its_query_looks(show, browser):
    scene, shown = show("detection", {"name": "detr", **SMALL}, "query_attention")
    attention, order = scene.content(scene.tensor("query_attention")[0]), scene.queries()[0]
    boxes, (height, width) = shown["query_attention"].widgets[0].boxes, scene.size
    choose(browser, "query_attention", 3)
    same(overlay(browser, "query_attention"), attention[order[3]])
    x, y = float(boxes[5, [0, 2]].mean()), float(boxes[5, [1, 3]].mean())
    around = (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])
    area = np.where(around, (boxes[:, 2:] - boxes[:, :2]).prod(1), np.inf)
    browser.click("#query_attention svg", x / width, y / height)
    same(overlay(browser, "query_attention"), attention[order[int(area.argmin())]])


def test_a_mesh_can_be_turned_stage_by_stage(show, browser):
    _, shown = show("mesh", MESH, "mesh_stages")
    meshes = shown["mesh_stages"].widgets[0].meshes
    browser.click("#mesh_stages .widget button")
    browser.run("return new Promise((done) => setTimeout(done, 500))")
    drawn = "return document.querySelector('.solid').data[0]."
    assert browser.run(f"{drawn}x.length") == len(next(iter(meshes.values()))[0])
    choose(browser, "mesh_stages", len(meshes) - 1)
    assert browser.run(f"{drawn}name") == [*meshes][-1]


def test_the_code_of_a_view_is_on_its_page(show, browser):
    show("detection", {"name": "detr", **SMALL}, "positions")
    read = "return document.querySelector('#positions pre').checkVisibility()"
    assert browser.run(read) is False
    browser.click("#positions summary")
    assert browser.run(read) is True
    text = browser.run("return document.querySelector('#positions details').innerText")
    assert "segcli/models/layers/position.py: SinePosition.forward, line " in text
    assert "def forward(self, size" in text
    assert "file://" not in browser.run("return document.documentElement.outerHTML")
