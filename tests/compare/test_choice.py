"""Which model to choose: never without evidence, the cheapest of those that can't be told apart, and what binds one."""

import dataclasses
import json

import pytest

from segcli.compare.choice import choices
from segcli.compare.intervals import Pair
from segcli.compare.row import Row
from segcli.compare.verdict import amount


def row(name, score, gflops=1.0, images=200, **more):
    return Row(
        **{"name": name, "source": "run", "model": "rcnn", "data": "d", "task": "instance", "primary": "segm_AP"},
        **{"split": "val", "metrics": {"segm_AP": score}, "gflops": gflops, "images": images, **more},
    )


def pair(a, b, delta, *, significant=True, unequal=None):
    low, high = (delta - 0.01, delta + 0.01) if significant else (delta - 0.05, delta + 0.05)
    return Pair(a, b, "segm_AP", delta, (low, high), significant, unequal)


def one(rows, pairs):
    (sentence,) = choices(rows, pairs, ["segm_AP"])
    return sentence


def test_the_one_that_is_ahead_of_all():
    rows = [row("a", 0.5), row("b", 0.4), row("c", 0.3)]
    pairs = [pair("a", "b", 0.1), pair("c", "a", -0.2), pair("b", "c", 0.1)]
    assert one(rows, pairs) == "choose a, because it is ahead of b, the next, by 10.0 ± 1.0 mask AP"


def test_the_cheapest_of_those_that_cant_be_told_apart():
    rows = [row("a", 0.50, gflops=4.0), row("b", 0.49, gflops=1.0)]
    said = one(rows, [pair("a", "b", 0.01, significant=False)])
    assert said == "choose b, because 200 images can't tell it from a (1.0 ± 5.0 mask AP), at 0.25× the FLOPs"
    rows = [row("a", 0.50, gflops=1.0), row("b", 0.49, gflops=4.0)]
    said = one(rows, [pair("a", "b", 0.01, significant=False)])
    assert said == "choose a, because 200 images can't tell b from it (1.0 ± 5.0 mask AP), and it costs less"


def test_what_is_worse_than_another_is_no_candidate():
    """b and c are both level with a, and c is worse than b: the cheapest is b, not c."""
    rows = [row("a", 0.50, gflops=4.0), row("b", 0.49, gflops=1.0), row("c", 0.45, gflops=0.95)]
    pairs = [pair("a", "b", 0.01, significant=False), pair("a", "c", 0.05, significant=False), pair("c", "b", -0.04)]
    assert one(rows, pairs).startswith("choose b, because")
    pairs[2] = pair("c", "b", -0.04, significant=False)
    assert "too thin to choose between c and b: -4.0 ± 5.0 mask AP" in one(rows, pairs)


@pytest.mark.parametrize(
    ("rows", "pairs", "says"),
    [
        (
            [row("a", 0.50, gflops=1.0), row("b", 0.49, gflops=1.05)],
            [pair("a", "b", 0.01, significant=False)],
            "the evidence is too thin to choose between a and b: 1.0 ± 5.0 mask AP on 200 images, at like FLOPs",
        ),
        (
            [row("a", 0.04), row("b", 0.0)],
            [pair("a", "b", 0.04)],
            "no choice yet: none has learned (mask AP 4.0 at most)",
        ),
        (
            [row("a", 0.5), row("b", 0.4)],
            [pair("a", "b", 0.1, significant=False, unequal="a had 3.1× the multiply-adds of b")],
            "no choice yet: a can't be held against b",
        ),
        ([row("a", 0.5), row("b", 0.4)], [], "no choice yet: a can't be held against b"),
    ],
)
def test_no_choice_without_evidence(rows, pairs, says):
    assert one(rows, pairs).startswith(says)


def test_what_was_not_judged_is_named_where_the_evidence_is_thin_too():
    rows = [row("a", 0.50), row("b", 0.49), row("c", 0.2)]
    pairs = [pair("a", "b", 0.01, significant=False), pair("a", "c", 0.3, unequal="c had less")]
    assert one(rows, pairs).endswith("at like FLOPs; not judged: c")


def test_where_nothing_is_judged_for_want_of_training_it_says_so():
    rows = [row("a", 0.5, diagnosis=["too few steps"]), row("b", 0.4)]
    said = one(rows, [pair("a", "b", 0.1, unequal="a was diagnosed as undertrained (too few steps)")])
    assert said.startswith("no choice yet (a 50.0, b 40.0): a is undertrained; train longer (more --minutes")
    timed = [
        row("a", 0.5, diagnosis=["too few steps"], enough_steps=250, train_steps=100, train_seconds=130.0),
        rows[1],
    ]
    said = one(timed, [pair("a", "b", 0.1, unequal="a was diagnosed as undertrained (too few steps)")])
    assert said.endswith("train longer (--minutes 6, by the pace that they had here)")


def test_a_difference_beside_the_middle_of_its_interval_is_printed_with_it():
    skewed = Pair("a", "b", "segm_AP", 0.085, (0.004, 0.186), True)
    said = one([row("a", 0.15), row("b", 0.06)], [skewed])
    assert "ahead of b, the next, by 8.5 (0.4 to 18.6) mask AP" in said
    assert amount(dataclasses.replace(skewed, delta=-0.085, ci95=(-0.186, -0.004))) == "8.5 (0.4 to 18.6)"


def test_one_run_or_none_is_no_choice():
    assert choices([row("a", 0.5), dataclasses.replace(row("r", 0.5), source="recipe")], [], ["segm_AP"]) == []


def test_what_the_choice_does_not_rest_on_and_what_it_binds_one_to(tmp_path):
    (tmp_path / "environment.json").write_text(
        json.dumps(
            {"dataset": {"name": "d"}, "weights": [{"source": "maskformer/coco_r50", "licence": "CC BY-NC 4.0"}]}
        )
    )
    rows = [row("a", 0.5, images=26, path=str(tmp_path)), row("b", 0.4, images=26), row("c", 0.3, images=26)]
    said = one(rows, [pair("a", "b", 0.1), pair("a", "c", 0.2, unequal="c was diagnosed as undertrained")])
    assert "; not judged: c; 26 images are few: label more before you rely on it" in said
    assert said.endswith("; its weights' licence is CC BY-NC 4.0: not for commercial use")


def test_a_sentence_for_each_score_that_two_have():
    rows = [row(name, 0.5, metrics={"bbox_AP": box, "segm_AP": box}) for name, box in (("a", 0.5), ("b", 0.4))]
    pairs = [pair("a", "b", 0.1), Pair("a", "b", "bbox_AP", 0.1, (0.09, 0.11), True)]
    said = choices(rows, pairs, ["segm_AP", "bbox_AP"])
    assert [s.split(",")[0] for s in said] == ["choose a by box AP", "choose a by mask AP"]
    assert choices(rows, pairs, ["bbox_AP", "segm_AP"]) == said, "by what most were trained for"
