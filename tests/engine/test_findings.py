"""`segcli eval --diagnose`: the costliest findings first, with names and numbers of what was measured."""

from segcli.core.recipe.recipe import Recipe
from segcli.engine.findings import findings
from segcli.models.interface import Model

RECIPE = Recipe.parse(
    {
        **{"name": "r", "task": "instance", "data": {"root": "d", "size": 320}, "train": {"steps": 9}},
        "model": {"name": "rcnn_lite", "backbone": {"name": "resnet"}},
    },
    "test",
)
ZERO = {"Cls": 0.0, "Loc": 0.0, "Both": 0.0, "Dupe": 0.0, "Bkg": 0.0, "Miss": 0.0}


def behind(**lost):
    return {
        "kind": "segm",
        "classes": ["square", "rhombus", "none"],
        "confusion": [[5, 7, 0], [2, 9, 1], [0, 0, 0]],
        "tide": {"lost": {**ZERO, **lost}, "counts": dict.fromkeys(ZERO, 4)},
        "calibration": {"ece": 0.02, "mce": 0.1, "bins": []},
    }


def test_the_costliest_come_first_and_name_what_was_measured():
    metrics = {"segm_AP": 0.4, "segm_APs": 0.1, "segm_APl": 0.7}
    found = findings(RECIPE, Model(), metrics, {}, behind(Cls=0.3, Miss=0.05, Dupe=0.02, Bkg=0.015))
    assert [round(one.cost, 2) for one in found] == [0.3, 0.2, 0.05]
    assert "30.0 points of mask AP50" in found[0].what
    assert "square is taken for rhombus (7)" in found[0].advice
    assert "mask AP 10.0, large ones 70.0" in found[1].what
    assert "data.size (320 now)" in found[1].advice


def test_nothing_is_found_where_nothing_is_lost():
    assert findings(RECIPE, Model(), {"segm_AP": 0.9}, {"square": {"segm_AP": 0.9}}, behind()) == []


def test_the_score_from_which_half_are_right_counts_all_above_it():
    bins = [(0.0, 0.6, 10), (0.5, 0.1, 100), (0.8, 0.9, 20)]  # begins at, share that is right, how many
    rows = [
        {"bin_lower": low, "bin_upper": low + 0.1, "avg_confidence": low, "avg_accuracy": right, "count": n}
        for low, right, n in bins
    ]
    [found] = findings(RECIPE, Model(), {}, {}, {**behind(), "calibration": {"ece": 0.4, "bins": rows}})
    assert "of detections scored 0.5 to 0.6, 10 % are right" in found.what
    assert "from 0.8 on, half of the detections" in found.advice


def test_a_class_far_behind_and_pixels_taken_for_others():
    per_class = {"road": {"IoU": 0.9}, "sky": {"IoU": 0.8}, "pole": {"IoU": 0.1}}
    maps = {"classes": ["road", "sky", "pole", "none"], "confusion": [[90, 0, 0, 0], [0, 70, 0, 0], [1, 30, 9, 0]]}
    found = findings(RECIPE, Model(), {"mIoU": 0.6}, per_class, maps)
    assert "Class pole has 10.0, the other classes 85.0" in found[0].what
    assert "75 % of the pixels of pole are taken for sky, 15.0 % of all pixels" in found[1].what
