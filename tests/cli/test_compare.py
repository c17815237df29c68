"""`segcli compare` on finished runs: table, order, files, and what it does about broken runs."""

import csv

import pytest


@pytest.fixture
def runs(fake_run):
    fake_run("good", gflops=10.0, metrics={"segm_AP": 0.5, "bbox_AP": 0.6, "segm_APs": 0.1, "segm_AP50": 0.7})
    fake_run("cheap", gflops=1.0, metrics={"segm_AP": 0.3, "bbox_AP": 0.4})
    fake_run("beaten", gflops=11.0, metrics={"segm_AP": 0.4, "bbox_AP": 0.5})


def names(text: str) -> list[str]:
    return [line.split()[0 if line[1] != "★" else 1] for line in text.splitlines() if " 5.00 " in line]


def test_every_run_below_runs_best_first_with_stars(segcli, runs):
    result = segcli("compare")
    assert result.code == 0
    assert names(result.out) == ["good", "beaten", "cheap"]
    starred = [line.split()[1] for line in result.out.splitlines() if line.startswith(" ★")]
    assert starred == ["good", "cheap"]
    assert "shapes val, 20 images" in result.out
    assert max(len(line) for line in result.out.splitlines() if not line.startswith("no choice")) <= 80


def test_sort(segcli, runs):
    assert names(segcli("compare", "--sort", "gflops").out) == ["cheap", "good", "beaten"]
    result = segcli("compare", "--sort", "gflop")
    assert result.code == 2
    assert "did you mean 'gflops'?" in result.err


def test_json_is_the_only_thing_on_stdout(segcli, runs):
    result = segcli("compare", "--json")
    assert [row["name"] for row in result.json["rows"]] == ["good", "beaten", "cheap"]
    assert [row["pareto"] for row in result.json["rows"]] == [True, False, True]


def test_csv_and_plot(segcli, runs, tmp_path):
    result = segcli("compare", "--csv", "a table.csv", "--plot", "out/plot.svg")
    assert result.code == 0
    lines = list(csv.DictReader((tmp_path / "a table.csv").read_text().splitlines()))
    assert [(line["name"], line["segm_AP50"]) for line in lines] == [("good", "0.7"), ("beaten", ""), ("cheap", "")]
    assert (tmp_path / "out" / "plot.svg").read_text().startswith("<?xml")
    assert "plot: out/plot.svg" in result.err
    assert segcli("compare", "--plot", "plot.xyz").code == 2


def test_a_broken_run_is_skipped_aloud_and_the_rest_is_shown(segcli, runs, tmp_path):
    (tmp_path / "runs" / "good" / "metrics.json").unlink()
    (tmp_path / "runs" / "cheap" / "cost.json").write_text('{"params": 3')
    result = segcli("compare")
    assert result.code == 0
    assert names(result.out) == ["beaten"]
    assert "skipped: runs/good/metrics.json: missing, the run is not finished" in result.err
    assert "skipped: runs/cheap/cost.json: not valid JSON" in result.err


def test_nothing_left_is_an_error(segcli, fake_run):
    (fake_run("a") / "metrics.json").unlink()
    result = segcli("compare", "runs/a")
    assert result.code == 4
    assert result.err.splitlines() == [
        "error: runs/a/metrics.json: missing, the run is not finished",
        "hint: segcli train --resume runs/a",
    ]


def test_no_runs_at_all(segcli):
    result = segcli("compare")
    assert result.code == 4
    assert "there is no run below runs/" in result.err


def test_two_datasets_are_two_tables_and_a_note(segcli, runs, fake_run):
    fake_run("elsewhere", data="pennfudan")
    out = segcli("compare").out
    assert "pennfudan val, 20 images" in out
    assert "note: scores on different data" in out


def test_published_needs_no_run_and_shows_the_papers_numbers_beside_ours(segcli):
    result = segcli("compare", "--published", "--json")
    assert result.code == 0
    row = next(r for r in result.json["rows"] if r["name"] == "DETR R50" and "boxes" in r["data"])
    assert (row["source"], row["params_published"], row["gflops_published"]) == ("published", 41_000_000, 86)
    assert row["metrics_published"]["bbox_APl"] == 0.611
    assert any("MaskFormer" in sentence and "DETR" in sentence for sentence in result.json["verdict"])


def test_runs_without_resamples_are_compared_and_the_note_says_what_to_do(segcli, runs):
    result = segcli("compare")
    assert "good has no intervals yet: segcli eval runs/good stores them" in " ".join(result.out.split())
    assert segcli("compare", "--json").json["pairs"] == []


def test_a_score_that_is_no_number_is_refused_by_name(segcli, fake_run):
    run = fake_run("a")
    file = run / "metrics.json"
    file.write_text(file.read_text().replace("0.5", "NaN"))
    result = segcli("compare")
    assert result.code == 4
    assert "runs/a/metrics.json: metrics.segm_AP: input should be a finite number, not nan" in result.error


def test_an_unsuitable_overlap_is_a_usage_error(segcli, fake_run):
    fake_run("a")
    fake_run("b", task="semantic", metrics={"mIoU": 0.5})
    fake_run("c", task="keypoints", metrics={"keypoints_AP": 0.5})
    for run, value, words in (
        ("a", "1.5", "neither an IoU"),
        ("a", "none", "neither an IoU"),
        ("b", "off", "no detec"),
        ("c", "1.5", "neither an IoU"),  # keypoints are of detections
    ):
        result = segcli("eval", f"runs/{run}", "--nms", value)
        assert result.code == 2
        assert words in result.error
