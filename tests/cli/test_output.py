"""Tables that fit, numbers as people read them, JSON that any parser takes."""

import io
import json

import pytest
from rich.console import Console
from tqdm import tqdm

from segcli.cli import output, tables
from segcli.cli.output import Column, Grid
from segcli.core.formatting import number, percent


def drawn(grid: Grid, width: int) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(grid.fitted(console))
    return capture.get()


GRID = Grid([Column("name"), Column("kept"), Column("first\nto go", drop=2), Column("second", drop=1)], [list("abcd")])


def test_a_wide_terminal_shows_everything():
    assert "too narrow" not in drawn(GRID, 60)


def test_a_narrow_one_drops_the_least_important_column_and_says_so():
    text = drawn(GRID, 24)
    assert "second" in text
    assert "to go" not in text.split("too narrow for:")[0]
    assert "too narrow for: first to go" in " ".join(text.split())
    assert "kept" in drawn(GRID, 14)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_longer_than_the_terminal(width):
    assert max(len(line) for line in drawn(GRID, width).splitlines()) <= width


def test_text_that_looks_like_markup_is_shown_as_it_is():
    assert "[bold]x[/bold] :smile:" in drawn(Grid([Column("[a]")], [["[bold]x[/bold] :smile:"]], "[t]"), 80)


def test_fractions_and_costs():
    assert [percent(v) for v in (0.4567, 0.0, 1, None, float("nan"), -1)] == ["45.7", "0.0", "100.0", "–", "–", "–"]
    assert [number(v) for v in (None, 1234.5, 0, 0.5, 0.00123)] == ["–", "1,234", "0", "0.50", "0.0012"]
    assert number(44_401_393, 1e6, 1) == "44.4"


def test_json_has_no_nan(capsys):
    output.print_json({"a": float("nan"), "b": [1.0, float("inf")], "c": "한글", "d": {1: (2,)}})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": None, "b": [1.0, None], "c": "한글", "d": {"1": [2]}}
    assert "한글" in text


def test_paths_in_commands_can_be_copied_into_a_shell():
    assert output.quoted("runs/my run") == "'runs/my run'"


def test_columns_without_a_title_are_left_out_without_a_word():
    table = Grid([Column("name"), Column("", drop=1), Column("long title", drop=2)], [["a", "b" * 9, "c"]])
    hidden = [column for column in table.columns if column.drop]
    assert "too narrow for: long title" in str(table.render(hidden).caption)
    assert table.render(hidden[:1]).caption is None


SCORES = {
    "primary": "segm_AP",
    "metrics": {"bbox_AP": 0.5, "bbox_AP50": 0.7, "segm_AP": 0.4, "segm_APl": 0.3},
    "per_class": {"cat": {"bbox_AP": 0.9, "segm_AP": 0.2}, "dog": {"bbox_AP": 0.1, "segm_AP": 0.6}, "cow": {}},
}


def test_scores_show_the_primary_kind_first_and_the_best_class_first():
    whole, classes = tables.scores(SCORES, "title")
    assert [c.title for c in whole.columns] == ["", "AP", "AP50", "APl"]
    assert whole.rows == [["mask", "40.0", "–", "30.0"], ["box", "50.0", "70.0", "–"]]
    assert [c.title for c in whole.columns if c.best] == ["AP"]
    assert [row[0] for row in classes.rows] == ["dog", "cat", "cow"]
    assert classes.rows[0] == ["dog", "60.0", "10.0"]


def test_scores_of_other_tasks_are_listed():
    (whole,) = tables.scores(
        {"primary": "PQ", "metrics": {"SQ": 0.8, "PQ": 0.5, "mesh_chamfer": 2.5}, "per_class": {}}, ""
    )
    assert whole.rows == [["PQ", "50.0"], ["SQ", "80.0"], ["mesh_chamfer", "2.500"]]
    assert tables.scores({"primary": "PQ", "metrics": {}, "per_class": {}}, "") == []


def test_a_table_on_a_picture_keeps_its_headings():
    grid = output.Grid([output.Column(""), output.Column("train"), output.Column("val")], [["images", "3", "1"]], "All")
    assert output.lines([grid]) == ["All\ttrain\tval", "images\t3\t1", ""]


def test_a_progress_bar_in_a_log_is_plain_lines():
    stream = io.StringIO()
    lines = output.PlainLines(stream)
    with tqdm(total=3, file=lines, mininterval=0, desc="scoring", leave=False) as bar:
        bar.update()
        tqdm.write("a message", file=lines)
        bar.update(2)
    print("after", file=lines)
    lines.write("no line end")
    lines.finish()
    text = stream.getvalue()
    assert "\r" not in text
    assert [line.split(":")[0] for line in text.splitlines()][-1] == "no line end"
    assert {"a message", "after"} < set(text.splitlines())
    assert all(line.strip() == line and line for line in text.splitlines())
    assert "1/3" in text


def test_streams_show_control_sequences_and_never_send_them():
    stream = io.StringIO()
    output.Shown(stream).write("a\x1b[2J\x07\x9b1m\u202eb\tc\ud800\n")
    assert stream.getvalue() == "a\\x1b[2J\\x07\\x9b1m\\u202eb\tc\\ud800\n"


def test_libraries_that_draw_may_send_theirs():
    stream = io.StringIO()
    exec("stream.write('\\x1b[1mbold')", {"__name__": "rich.console", "stream": output.Shown(stream)})
    assert stream.getvalue() == "\x1b[1mbold"
