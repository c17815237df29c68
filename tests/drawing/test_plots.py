"""Charts: the right points, a true Pareto front, names that can be read, files that are whole."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.text import Annotation, Text

from segcli.core.errors import UsageError
from segcli.drawing import plots
from segcli.drawing.plots import Point, front, pareto_plot

ROWS = [
    *(Point("cheap", "rcnn", 2.0, 0.4), Point("good", "detr", 80.0, 0.7), Point("beaten", "rcnn", 90.0, 0.5)),
    Point("twin", "fcn", 2.0, 0.4),
]


def test_the_front_holds_what_nothing_beats():
    assert front([(1, 1), (2, 2), (3, 2), (2, 1.5), (0.5, 0.2)]) == {0, 1, 4}
    assert front([(1, 1), (1, 1)]) == {0, 1}, "equals don't beat each other"
    assert front([(1, 1), (1, 2)]) == {1}
    assert front([]) == set()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_chart_is_written_whole_in_the_format_of_its_name(tmp_path, suffix):
    path = tmp_path / "새 폴더" / f"plot{suffix}"
    assert pareto_plot(ROWS, "gflops", "segm_AP", path) == []
    start = path.read_bytes()[:200]
    assert {".png": b"PNG", ".svg": b"<svg", ".pdf": b"%PDF"}[suffix] in start + path.read_bytes()[200:2000]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_svg_names_every_row_and_what_lacks_a_number_is_returned(tmp_path):
    rows = [*ROWS, Point("unmeasured", "rcnn", None, 0.9)]
    assert pareto_plot(rows, "gflops", "segm_AP", tmp_path / "plot.svg") == ["unmeasured"]
    text = " ".join(ET.parse(tmp_path / "plot.svg").getroot().itertext())
    for word in ("cheap", "good", "beaten", "twin", "GFLOPs", "segm_AP", "Pareto front"):
        assert word in text
    assert "unmeasured" not in text
    first = (tmp_path / "plot.svg").read_bytes()
    pareto_plot(rows, "gflops", "segm_AP", tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_bytes() == first, "the same rows give the same file"


def test_names_do_not_collide(tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(plots, "_save", lambda figure, path: kept.setdefault("figure", figure))
    rng = np.random.default_rng(0)
    rows = [Point(f"some-run-name-{i}", "rcnn", 10 + rng.normal(), 0.6 + 0.02 * rng.normal()) for i in range(9)]
    pareto_plot(rows, "gflops", "segm_AP", tmp_path / "plot.png")
    figure = kept["figure"]
    figure.draw_without_rendering()
    names = [c for c in figure.axes[0].get_children() if isinstance(c, Annotation)]
    boxes = [Text.get_window_extent(n) for n in names]
    assert len(boxes) == 9
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_charts_that_can_not_be_drawn_say_why(tmp_path):
    with pytest.raises(UsageError, match="no row has both"):
        pareto_plot([Point("a", "rcnn", None, 0.5)], "gflops", "segm_AP", tmp_path / "plot.png")
    with pytest.raises(UsageError, match=r"plot\.jpg: .*\.svg, \.png"):
        pareto_plot(ROWS, "gflops", "segm_AP", tmp_path / "plot.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", plots.SUFFIXES)
def test_names_of_runs_are_drawn_as_they_are(tmp_path, suffix):
    names = ["$\\frac$", "a$b$c", "line\nend\x1b[2J", "half\ud800", "\u202eback"]
    rows = [Point(name, "m", i + 1, 0.1) for i, name in enumerate(names)]
    plots.pareto_plot(rows, "gflops", "AP", tmp_path / f"p{suffix}")
    if suffix == ".svg":
        text = (tmp_path / "p.svg").read_text(encoding="utf-8")
        assert "$\\frac$" in text
        assert "line end\\x1b[2J" in text
