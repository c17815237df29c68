"""Pairs of runs and the sentences about them, from resamples that the test stores itself."""

import re

import numpy as np
import pytest

from segcli.compare.intervals import attach, difference, pairs
from segcli.compare.ranking import metrics_of, rank
from segcli.compare.rows import run_row
from segcli.compare.verdict import verdict
from segcli.ops.bootstrap import digest

NOISE = np.random.default_rng(0).normal(0, 0.05, 1000)  # what the images do to every model


def store(run, images=range(20), spread=0.005, seed=1, **scores):
    (run / "predictions").mkdir(exist_ok=True)
    own = np.random.default_rng(seed).normal(0, spread, (len(scores), 1000))
    arrays = {k: (v + NOISE + e).astype(np.float32) for (k, v), e in zip(scores.items(), own, strict=True)}
    np.savez(run / "predictions" / "val_bootstrap.npz", digest=np.array(digest(images)), **arrays)


@pytest.fixture
def made(fake_run):
    """name -> (gflops, scores): runs with resamples -> their one group, pairs, sentences."""

    def make(images=range(20), **runs):
        rows = []
        for seed, (name, (gflops, scores)) in enumerate(runs.items()):
            run = fake_run(name, gflops=gflops, metrics=scores)
            store(run, images, seed=seed, **scores)
            rows.append(run_row(run))
        (group,) = rank(rows)
        found = pairs(group, attach(rows), metrics_of(group))
        return group, found, verdict(group, found, metrics_of(group))

    return make


def test_pairing_tells_models_apart_that_their_own_intervals_do_not(made):
    group, found, sentences = made(a=(4.0, {"segm_AP": 0.53}), b=(10.0, {"segm_AP": 0.50}), c=(8.0, {"segm_AP": 0.525}))
    low, high = group[0].ci95["segm_AP"]
    assert low < 0.50 < 0.53 < high, "alone, a's interval holds b's score"
    assert {(p.a, p.b): p.significant for p in found} == {
        ("a", "c"): False,
        ("a", "b"): True,
        ("c", "b"): True,
    }
    a_b = found[1]
    assert a_b.delta == pytest.approx(0.03)
    assert a_b.ci95[0] < 0.03 < a_b.ci95[1]
    assert re.fullmatch(r"a is better than b by 3\.0 ± 1\.[34] mask AP, at 0\.4× the FLOPs", sentences[0])
    assert sentences[1].startswith("a and c can't be told apart on 20 images: the difference is 0.5 ± 1.")
    assert "20 images are few" in sentences[2]


def test_a_model_that_is_worse_but_better_on_large_objects_is_pointed_out(made):
    _, _, sentences = made(
        rcnn=(4.0, {"segm_AP": 0.53, "segm_APs": 0.4, "segm_APl": 0.50}),
        detr=(4.0, {"segm_AP": 0.50, "segm_APs": 0.2, "segm_APl": 0.60}),
    )
    assert any(s.startswith("on large objects detr is better than rcnn by 10.0 ±") for s in sentences)
    assert not any("small objects" in s for s in sentences)


def test_masks_are_compared_among_those_that_have_them(made):
    _, found, sentences = made(
        boxes=(4.0, {"bbox_AP": 0.6}),
        worse=(4.0, {"bbox_AP": 0.5, "segm_AP": 0.3}),
        better=(4.0, {"bbox_AP": 0.5, "segm_AP": 0.4}),
    )
    assert [(p.a, p.b) for p in found if p.metric == "segm_AP"] == [("better", "worse")]
    assert "boxes is better than worse by 10.0 ±" in "\n".join(sentences)
    assert "better is better than worse by 10.0 ±" in "\n".join(s for s in sentences if "mask AP" in s)


def test_runs_of_other_images_are_not_paired(fake_run):
    rows = []
    for name, images in (("a", range(20)), ("b", range(1, 21))):
        run = fake_run(name)
        store(run, images, segm_AP=0.5)
        rows.append(run_row(run))
    assert pairs(rows, attach(rows), ["segm_AP"]) == []


def test_missing_and_broken_resamples_are_noted_and_the_rest_goes_on(fake_run):
    runs = [fake_run(name) for name in "abc"]
    store(runs[0], segm_AP=0.5)
    store(runs[1], segm_AP=0.5)
    file = runs[1] / "predictions" / "val_bootstrap.npz"
    file.write_bytes(file.read_bytes()[:200])
    rows = [run_row(run) for run in runs]
    assert len(attach(rows)) == 1
    assert "can't be read" in rows[1].notes[0]
    assert f"segcli eval {runs[2]} stores them" in rows[2].notes[0]


def test_a_resample_without_anything_to_find_does_not_spoil_the_interval(fake_run):
    run = fake_run("a")
    store(run, segm_AP=0.5)
    file = run / "predictions" / "val_bootstrap.npz"
    stored = dict(np.load(file))
    stored["segm_AP"][:100] = np.nan
    np.savez(file, **stored)
    row = run_row(run)
    attach([row])
    assert np.isfinite(row.ci95["segm_AP"]).all()
    assert "bbox_AP" not in row.ci95


def test_a_size_that_hardly_an_image_shows_decides_nothing(fake_run):
    a, b = run_row(fake_run("a", metrics={"segm_APs": 0.3})), run_row(fake_run("b", metrics={"segm_APs": 0.2}))
    draws = np.where(np.arange(1000) < 370, np.nan, 0.3)  # one image: a share of 1/e of the draws is without it
    assert not difference(a, b, draws, draws - 0.1, "segm_APs").significant
    assert difference(a, b, np.full(1000, 0.3), np.full(1000, 0.2), "segm_APs").significant


def test_suppression_that_was_measured_is_said(fake_run):
    rows = [run_row(fake_run("a")), run_row(fake_run("b"))]
    rows[0].nms = {"off": {"segm_AP": 0.2}, "0.5": {"segm_AP": 0.5}}
    assert verdict(rows, [], ["segm_AP"]) == [
        "a: mask AP 50.0 as it is, 20.0 without suppression, 50.0 with suppression at 0.5"
    ]
