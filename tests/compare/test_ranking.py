"""Order, Pareto marks, and that only comparable scores are ranked together."""

import dataclasses

import pytest

from segcli.compare.ranking import accuracy, group_title, notes, rank
from segcli.compare.rows import run_row
from segcli.core.errors import UsageError


@pytest.fixture
def rows(fake_run):
    """Make run rows: name -> (gflops, metrics)."""

    def make(**runs):
        return [run_row(fake_run(name, gflops=g, metrics=m)) for name, (g, m) in runs.items()]

    return make


def names(group):
    return [r.name for r in group]


def recipe_row(row, **changes):
    changes = {"source": "recipe", "metrics": {}, "images": None, "train_seconds": None, **changes}
    return dataclasses.replace(row, **changes)


def test_best_first_and_rows_that_nothing_beats_are_marked(rows):
    made = rows(
        good=(10.0, {"segm_AP": 0.5}),
        cheap=(1.0, {"segm_AP": 0.3}),
        worse=(11.0, {"segm_AP": 0.4}),
        same_score_dearer=(12.0, {"segm_AP": 0.5}),
    )
    (group,) = rank(made)
    assert names(group) == ["good", "same_score_dearer", "worse", "cheap"]
    assert {r.name for r in group if r.pareto} == {"good", "cheap"}


def test_equal_rows_are_both_optimal(rows):
    (group,) = rank(rows(a=(1.0, {"segm_AP": 0.5}), b=(1.0, {"segm_AP": 0.5})))
    assert [r.pareto for r in group] == [True, True]


def test_boxes_decide_where_not_every_run_has_masks(rows, fake_run):
    mask = rows(mask=(2.0, {"segm_AP": 0.9, "bbox_AP": 0.4}))
    box = run_row(fake_run("box", gflops=1.0, metrics={"bbox_AP": 0.5}, task="detection"))
    (group,) = rank([*mask, box])
    assert accuracy(group) == "bbox_AP"
    assert names(group) == ["box", "mask"]
    assert [r.pareto for r in group] == [True, False]


def test_tasks_without_a_score_in_common_stand_apart_each_by_its_own(fake_run):
    box = fake_run("box", gflops=1.0, metrics={"bbox_AP": 0.5}, task="detection")
    mask = fake_run("mask", gflops=2.0, metrics={"bbox_AP": 0.4, "segm_AP": 0.3})
    maps = [
        fake_run(name, gflops=1.0, metrics={"mIoU": score}, task="semantic") for name, score in (("x", 0.2), ("y", 0.7))
    ]
    both = fake_run("both", gflops=1.0, metrics={"PQ": 0.5, "mIoU": 0.6}, task="panoptic")
    made = [run_row(run) for run in (box, mask, *maps, both)]
    groups = rank([*made, recipe_row(made[2], name="untrained")])
    assert [names(g) for g in groups] == [["y", "both", "x", "untrained"], ["box", "mask"]]
    assert [accuracy(g) for g in groups] == ["mIoU", "bbox_AP"]
    assert [r.pareto for r in groups[0]] == [True, False, False, False]
    assert any("y, both, x by mIoU; box, mask by bbox_AP" in note for note in notes(groups))
    assert not any("not ranked against each other" in note for note in notes(groups))


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("gflops", ["a", "b"]),
        ("bbox_AP", ["a", "b"]),
        ("segm_AP", ["b", "a"]),
        ("latency_ms", ["b", "a"]),
        ("name", ["a", "b"]),
    ],
)
def test_costs_ascend_and_scores_descend(fake_run, key, order):
    a = fake_run("a", gflops=1.0, metrics={"segm_AP": 0.1, "bbox_AP": 0.9})
    b = fake_run("b", gflops=2.0, metrics={"segm_AP": 0.2}, latency_ms={"median": 1.0, "p95": 2.0})
    (group,) = rank([run_row(b), run_row(a)], key)
    assert names(group) == order


def test_an_unknown_column_gets_the_nearest(rows):
    with pytest.raises(UsageError, match="--sort segm_ap") as caught:
        rank(rows(a=(1.0, {"segm_AP": 0.5})), "segm_ap")
    assert "segm_AP" in str(caught.value.hint)


def test_other_data_splits_and_versions_are_not_ranked_together(fake_run):
    made = [
        run_row(fake_run("a", metrics={"segm_AP": 0.1})),
        run_row(fake_run("b", metrics={"segm_AP": 0.2}, data="pennfudan")),
        run_row(fake_run("c", metrics={"segm_AP": 0.3}, fingerprint="changed")),
        run_row(fake_run("d", metrics={"segm_AP": 0.4}, recipe="eval: {split: test}\n")),
    ]
    made[3].split = "test"
    groups = rank(made)
    assert [names(g) for g in groups] == [["a"], ["b"], ["c"], ["d"]]
    assert not any(g[0].pareto for g in groups), "no star without another row to be held against"
    assert any("not ranked against each other" in note for note in notes(groups))
    assert group_title(groups[1]) == "pennfudan val, 20 images"


def test_the_same_data_divided_by_another_file_is_another_group(fake_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(name)
        file = tmp_path / f"{name}.txt"
        recipe = f"data: {{name: shapes, root: data/shapes, split_file: {file}}}\n"
        run = fake_run(name)
        text = (run / "recipe.yaml").read_text().replace("data: {name: shapes, root: data/shapes}\n", recipe)
        (run / "recipe.yaml").write_text(text)
        made.append(run_row(run))
    assert len(rank(made)) == 2


def test_an_untrained_recipe_stands_last_beside_the_runs_on_its_data(rows):
    run = rows(a=(1.0, {"segm_AP": 0.5}))[0]
    same = recipe_row(run, name="untrained")
    unprepared = recipe_row(run, name="unprepared", fingerprint=None)
    elsewhere = recipe_row(run, name="elsewhere", data="pennfudan")
    groups = rank([same, unprepared, elsewhere, run])
    assert [names(g) for g in groups] == [["a", "unprepared", "untrained"], ["elsewhere"]]
    assert not any(r.pareto for r in groups[0])
    assert notes(groups) == []


def test_latencies_of_different_machines_are_pointed_out(fake_run):
    a = run_row(fake_run("a"))
    b = run_row(fake_run("b", measured_on={"device": "cuda", "threads": 2, "batch": 1}))
    assert any("different devices" in note for note in notes(rank([a, b])))


def test_latencies_of_a_machine_that_was_busy_for_one_of_them_are_pointed_out(rows):
    made = rows(a=(1.0, {"segm_AP": 0.5}), b=(2.0, {"segm_AP": 0.4}))
    where = {"device": "cpu", "threads": 1, "batch": 1}

    def said(*speeds):
        for row, speed in zip(made, speeds, strict=True):
            row.measured_on, row.machine = where, {"gflops_per_second": speed}
        return [note for note in notes(rank(made)) if "latencies" in note]

    assert said(19.2, 18.0) == said(None, 18.0) == []
    assert ["8 to 19 GFLOP/s" in note for note in said(19.2, 8.1)] == [True]
