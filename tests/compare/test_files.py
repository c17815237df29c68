"""The comparison as JSON, CSV and picture."""

import csv
import json
import os

import pytest

from segcli.compare.files import check, document, plot, write_csv
from segcli.compare.ranking import rank
from segcli.compare.rows import run_row
from segcli.core.errors import ModelError, UsageError

CONTRACT_KEYS = {
    *("name", "source", "model", "variant", "backbone", "data", "params", "params_published", "gflops"),
    *("gflops_paper_rule", "gflops_published", "latency_ms", "peak_memory_mb", "metrics", "metrics_published"),
    *("ci95", "pareto"),
}


@pytest.fixture
def groups(fake_run):
    a = fake_run("a, with comma", gflops=2.0, metrics={"segm_AP": 0.5, "bbox_AP": 0.6})
    b = fake_run("b", gflops=1.0, metrics={"bbox_AP": 0.3}, peak_memory_mb=None)
    return rank([run_row(a), run_row(b)])


def test_the_document_has_every_key_of_the_contract(groups):
    made = json.loads(json.dumps(document(groups, [("runs/x", ModelError("runs/x: broken"))], [], ["a is better"])))
    assert made["schema_version"] == 1
    assert made["pairs"] == []
    assert made["verdict"] == ["a is better"]
    assert made["skipped"] == [{"item": "runs/x", "error": "runs/x: broken"}]
    assert [row["name"] for row in made["rows"]] == ["a, with comma", "b"]
    assert all(set(row) >= CONTRACT_KEYS for row in made["rows"])


def test_csv_has_a_line_a_row_and_empty_cells_for_unknowns(groups, tmp_path):
    file = tmp_path / "new folder" / "표.csv"
    write_csv(groups, file)
    a, b = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    assert (a["name"], a["gflops"], a["latency_ms"], a["latency_ms_p95"]) == ("a, with comma", "2.0", "45.6", "50.0")
    assert (a["segm_AP"], b["segm_AP"], b["peak_memory_mb"]) == ("0.5", "", "")
    assert [p.name for p in file.parent.iterdir()] == ["표.csv"]


def test_one_plot_for_each_dataset(groups, fake_run, tmp_path):
    other = rank([run_row(fake_run("c", data="pennfudan"))])
    said = plot([*groups, *other], tmp_path / "plot.svg")
    assert [line.removeprefix(f"plot: {tmp_path}/") for line in said] == [
        *("plot.svg", "plot-training.svg"),
        *("plot-pennfudan-val-20-images.svg", "plot-pennfudan-val-20-images-training.svg"),
    ]
    assert all(p.read_text(encoding="utf-8").rstrip().endswith("</svg>") for p in tmp_path.glob("*.svg"))


def test_what_a_plot_leaves_out_is_said(fake_run, groups, tmp_path):
    assert "is not drawn" in plot(rank([run_row(fake_run("x", metrics={}))]), tmp_path / "plot.svg")[0]
    (group,) = groups
    group[1].gflops = None
    assert plot([group], tmp_path / "plot.svg")[0].endswith(f"(without {group[1].name})")


@pytest.mark.parametrize(
    ("option", "file", "said"),
    [("plot", "a.jpg", "format"), ("csv", "file/a.csv", "can't be written"), ("html", ".", "can't")],
)
def test_files_that_can_not_be_written_are_refused_at_once(tmp_path, option, file, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=said):
        check(**{option: tmp_path / file})
    check(**{option: tmp_path / "new/folder/a.svg"})


@pytest.mark.parametrize(("option", "name"), [("csv", "recipe.yaml"), ("html", "page.html"), ("plot", "photo.png")])
def test_a_file_of_another_kind_is_not_replaced(tmp_path, option, name):
    path = tmp_path / name
    path.write_bytes(b"a,b\n<html>\x89PNG of mine")
    with pytest.raises(UsageError, match="is there already") as caught:
        check(**{option: path})
    assert "--force" in caught.value.hint
    check(True, **{option: path})
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is there already"):
        check(**{option: path})


def test_a_table_and_a_plot_are_replaced_by_new_ones(tmp_path, groups):
    for kind in ("svg", "png", "pdf"):
        for _ in range(2):
            check(csv=tmp_path / "t.csv", plot=tmp_path / f"p.{kind}")
            write_csv(groups, tmp_path / "t.csv")
            plot(groups, tmp_path / f"p.{kind}")
    assert (tmp_path / "p.png").is_file()


def test_no_cell_of_the_table_is_a_formula(fake_run, tmp_path):
    names = ['=cmd|"/c calc"!A1', "@SUM(A1)", "-2+3", "\tx", "plain"]
    groups = rank([run_row(fake_run(f"r{i}")) for i in range(len(names))])
    for row, name in zip(groups[0], names, strict=True):
        row.name = name
    groups[0][0].metrics["@own"] = -0.25
    groups[0][0].variant = "-5e-1"
    write_csv(groups, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [*(f"'{name}" for name in names[:4]), "plain"]
    assert (rows[0]["'@own"], rows[0]["variant"]) == ("-0.25", "-5e-1")


def test_a_foreign_second_plot_is_found_before_any_training(tmp_path):
    (tmp_path / "p-training.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"p-training\.png: is there already"):
        check(plot=tmp_path / "p.png")
    check(plot=tmp_path / "p.png", force=True)
