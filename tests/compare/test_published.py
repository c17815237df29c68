"""The papers' rows: complete, consistent, never among anyone's runs, and the finding is there to see."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from recount_published import recount

from segcli.compare.published import add_reported, load, published_rows, table
from segcli.compare.ranking import accuracy, rank
from segcli.compare.row import describe
from segcli.compare.rows import run_row
from segcli.compare.verdict import verdict
from segcli.core.recipe.recipe import shipped


def test_every_row_names_a_shipped_recipe_and_is_ranked_by_its_own_metric():
    recipes = {entry.recipe for _, entry in table().entries}
    assert {recipe.split()[0] for recipe in recipes} <= set(shipped())
    assert set(table().counted) == recipes
    assert all(group.ranked_by in group.scores for group in table().groups)
    assert all(len(entry.scores) == len(group.scores) for group, entry in table().entries)
    for group in rank(published_rows()):
        assert accuracy(group) == group[0].primary
        assert all(0 < value < 1 for row in group for value in row.metrics_published.values())
        assert any(row.pareto for row in group)


def test_our_counts_agree_with_the_papers():
    """Parameters to the papers' rounding; GFLOPs by the paper's own rule within 2 %."""
    for row in published_rows():
        if row.params and row.params_published:
            assert abs(row.params - row.params_published) <= 0.02 * row.params_published + 5e5, row.name
        if row.gflops_paper_rule and row.gflops_published:
            assert row.gflops_paper_rule == pytest.approx(row.gflops_published, rel=0.02), row.name


@pytest.mark.parametrize("name", ["coco/detr_r50", "ade20k/per_pixel_r50", "ade20k/maskformer_r50"])
def test_what_is_stored_is_what_is_counted(name):
    assert recount(name).model_dump() == pytest.approx(table().counted[name].model_dump(), abs=0.005)


def test_maskformer_has_higher_quality_for_fewer_flops():
    groups = {g[0].data: g for g in rank(published_rows())}
    (sentence,) = verdict(groups["COCO panoptic (papers)"], [], ["PQ"])
    assert sentence.startswith("MaskFormer Swin-T has a higher PQ than DETR R101 (47.7 against 45.1), at 0.")
    best = {row.name: row.metrics_published["mIoU"] for row in groups["ADE20K (papers)"]}
    assert best["MaskFormer R50"] > best["PerPixelBaseline+ R50"] > best["PerPixelBaseline R50"]


def test_they_stand_apart_from_runs(fake_run):
    groups = rank([run_row(fake_run("mine", data="coco2017")), *published_rows()])
    assert [r.name for r in groups[0]] == ["mine"]
    assert all(row.source == "published" for group in groups[1:] for row in group)


def test_a_shipped_recipe_has_the_papers_numbers_beside_its_own():
    for recipe, gflops in (("coco/detr_r50", 86), ("quickstart/mask_rcnn", None)):
        row = describe(load(recipe))
        add_reported(row, recipe)
        assert (row.gflops_published, bool(row.metrics_published)) == (gflops, gflops is not None)
