"""Nothing is concluded from runs of very different training work, or that are undertrained; but where work is alike."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

from segcli.compare import equal_work, files
from segcli.compare.intervals import attach, pairs
from segcli.compare.ranking import metrics_of, notes, rank
from segcli.compare.rows import run_row
from segcli.compare.verdict import verdict
from segcli.drawing.plots import Point, pareto_plot
from segcli.engine import diagnosis
from segcli.ops.bootstrap import digest

NOISE = np.random.default_rng(0).normal(0, 0.03, 1000)  # what the images do to every model


@pytest.fixture
def made(fake_run):
    """name -> (mask AP, what cost.json has besides, diagnoses): -> group, pairs, sentences."""

    def make(**runs):
        rows = []
        for name, (score, cost, *causes) in runs.items():
            run = fake_run(name, metrics={"segm_AP": score}, **cost)
            scores = json.loads((run / "metrics.json").read_text())
            scores["diagnosis"] = [{"cause": cause, "evidence": "e", "advice": "a"} for cause in causes]
            (run / "metrics.json").write_text(json.dumps(scores))
            (run / "predictions").mkdir()
            drawn = (score + NOISE).astype(np.float32)
            np.savez(run / "predictions" / "val_bootstrap.npz", digest=np.array(digest(range(20))), segm_AP=drawn)
            rows.append(run_row(run))
        (group,) = rank(rows)
        found = pairs(group, attach(rows), metrics_of(group))
        return group, found, verdict(group, found, metrics_of(group))

    return make


def of(gflops, images=100):
    return {"train_gflops": gflops, "images_seen": images}


@pytest.mark.parametrize(("more", "said"), [(310.0, "3.1×"), (201.0, "2.1×"), (1234.0, "12×")])
@pytest.mark.parametrize("better_had_more", [True, False])
def test_very_different_work_is_said_and_nothing_is_concluded(made, more, said, better_had_more):
    works = (more, 100.0) if better_had_more else (100.0, more)
    group, (pair,), sentences = made(rcnn=(0.5, of(works[0])), detr=(0.3, of(works[1])))
    one, other = ("rcnn", "detr") if better_had_more else ("detr", "rcnn")
    assert sentences == [f"not compared: {one} had {said} the multiply-adds of {other}"]
    assert pair.significant is False
    assert pair.unequal == f"{one} had {said} the multiply-adds of {other}"
    assert [(row.pareto, len(row.not_compared)) for row in group] == [(False, 1)] * 2


@pytest.mark.parametrize("cause", equal_work.UNDERTRAINED)
@pytest.mark.parametrize("better", [True, False])
def test_a_run_that_was_diagnosed_as_undertrained_is_not_compared(made, cause, better):
    group, (pair,), sentences = made(
        rcnn=(0.5, of(100.0), *([cause] if better else [])), detr=(0.04, of(100.0), *([] if better else [cause]))
    )
    name = "rcnn" if better else "detr"
    assert sentences == [f"not compared: {name} was diagnosed as undertrained ({cause})"]
    assert (pair.significant, pair.unequal) == (False, sentences[0].removeprefix("not compared: "))
    assert not any(row.pareto for row in group)


@pytest.mark.parametrize("works", [(100.0, 100.0), (150.0, 100.0), (100.0, 200.0), (200.0, 100.0)])
def test_like_work_is_compared(made, works):
    group, (pair,), sentences = made(rcnn=(0.5, of(works[0])), detr=(0.3, of(works[1])))
    assert sentences[0].startswith("rcnn is better than detr by 20.0 ± ")
    assert sentences[0].endswith("mask AP, at the same FLOPs")
    assert (pair.significant, pair.unequal) == (True, None)
    assert [row.pareto for row in group] == [True, False]


def test_unlike_starts_are_named_where_the_backbone_is_the_same(made):
    group, found, _ = made(rcnn=(0.5, of(100.0)), detr=(0.3, of(100.0)))
    group[0].starts, group[1].starts = "imagenet and scenes", "imagenet"
    said = lambda: verdict(group, found, metrics_of(group))[0]
    assert said().endswith(", begun with imagenet and scenes where the other began with imagenet")
    group[1].backbone = "another"
    assert "begun" not in said()


def test_a_cheaper_model_that_saw_more_images_for_the_same_work_is_compared_and_that_is_said(made):
    _, (pair,), sentences = made(
        small=(0.5, {"gflops": 1.0, **of(100.0, 300)}), large=(0.3, {"gflops": 3.0, **of(100.0, 100)})
    )
    assert re.fullmatch(
        r"small is better than large by 20\.0 ± \d\.\d mask AP, at 0\.33× the FLOPs, after 3\.0× the images",
        sentences[0],
    )
    assert pair.significant


@pytest.mark.parametrize("cause", ["unknown", "exploding matching cost", "learning rate too high"])
def test_other_diagnoses_are_no_lack_of_training(made, cause):
    _, (pair,), sentences = made(rcnn=(0.5, of(100.0)), detr=(0.04, of(100.0), cause))
    assert "rcnn is better than detr" in sentences[0]
    assert pair.significant


def test_the_diagnoses_are_those_that_training_names():
    source = (diagnosis.__file__ or "").replace(".pyc", ".py")
    with open(source, encoding="utf-8") as file:
        text = file.read()
    assert all(f'"{cause}",' in text for cause in equal_work.UNDERTRAINED)


def test_runs_of_like_work_are_compared_beside_others(made):
    group, found, sentences = made(
        long=(0.6, of(900.0)), a=(0.5, of(100.0)), b=(0.4, of(120.0)), silent=(0.0, of(100.0), "no-object collapse")
    )
    assert sentences[:2] == [
        "not compared: silent was diagnosed as undertrained (no-object collapse)",
        "not compared: long had 9.0× the multiply-adds of a, 7.5× those of b",
    ]
    assert sentences[2].startswith("a is better than b by 10.0 ±")
    assert [(p.a, p.b) for p in found if p.significant] == [("a", "b")]
    assert [row.name for row in group if row.pareto] == ["a"]
    assert not any("long is better" in s or "than silent" in s for s in sentences)


@pytest.mark.parametrize("cost", [{}, {"train_gflops": None, "train_cpu_seconds": None}])
def test_runs_of_earlier_versions_are_compared_as_before_and_a_note_says_what_is_not_known(made, cost):
    group, (pair,), sentences = made(old=(0.5, cost), new=(0.3, of(100.0)))
    assert sentences[0].startswith("old is better than new by 20.0 ±")
    assert (pair.significant, pair.unequal) == (True, None)
    told = lambda *rows: [note for note in notes(rank(rows)) if "multiply-adds" in note]
    assert told(*group) == ["the multiply-adds of training are not recorded for old: whether it was equal is not known"]
    old = group[0]
    older = dataclasses.replace(old, name="older")
    assert told(old) == []
    assert told(old, older) == ["the multiply-adds of these trainings are not recorded"]


def test_the_files_have_it_too(made, tmp_path):
    group, found, sentences = made(rcnn=(0.5, of(310.0)), detr=(0.3, of(100.0), "too few steps"))
    files.write_csv([group], tmp_path / "t.csv")
    rcnn, detr = csv.DictReader((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines())
    assert (rcnn["train_gflops"], rcnn["not_compared"], detr["diagnosis"]) == ("310.0", "detr", "too few steps")
    document = json.dumps(files.document([group], [], found, sentences))
    assert "is better" not in document
    assert json.loads(document)["pairs"][0]["unequal"] == "detr was diagnosed as undertrained (too few steps)"


def test_the_score_can_be_read_against_the_work(made, tmp_path):
    group, _, _ = made(rcnn=(0.5, of(310.0)), detr=(0.3, of(100.0)))
    said = files.plot([group], tmp_path / "p.svg")
    assert [line.rsplit("/")[-1] for line in said] == ["p.svg", "p-training.svg", "p-work.svg"]
    text = {name: (tmp_path / f"{name}.svg").read_text(encoding="utf-8") for name in ("p", "p-training", "p-work")}
    assert "of the whole training" in text["p-work"]
    assert "Pareto front" in text["p-work"]
    for name in ("p", "p-training"):
        assert "Pareto front" not in text[name]
        assert "training work differs too much" in text[name]
    points = [Point(row.name, row.model, row.gflops, row.metrics["segm_AP"]) for row in group]
    assert pareto_plot(points, "gflops", "segm_AP", tmp_path / "q.svg") == []
    assert "Pareto front" in (tmp_path / "q.svg").read_text(encoding="utf-8")


def test_the_table_shows_work_and_marks_no_winner(segcli, made):
    made(rcnn=(0.5, of(31_000.0)), detr=(0.3, of(10_000.0)))
    result = segcli("compare")
    assert result.code == 0
    assert "not compared: rcnn had 3.1× the multiply-adds of detr" in result.out.replace("\n", " ")
    assert "is better" not in result.out
    assert not [line for line in result.out.splitlines() if line.startswith(" ★")]
    assert [row["name"] for row in segcli("compare", "--sort", "train_gflops", "--json").json["rows"]] == [
        "detr",
        "rcnn",
    ]
