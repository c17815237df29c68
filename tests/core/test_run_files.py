"""A run's files have one reader each: what is wrong is an error that names file and place, all else comes back."""

import json

import pytest

from segcli.core import run_files
from segcli.core.errors import ModelError

METRICS = {"primary": "mIoU", "metrics": {"mIoU": 0.5, "new": None}, "images": 3, "own": {"kept": [1]}}
COST = {"params": 1, "gflops": 1.5, "gflops_paper_rule": None, "gflops_input": [4, 4], "latency_ms": None}
COST["peak_memory_mb"] = 3


def put(run, name, value):
    (run / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def test_what_is_right_comes_back_whole(tmp_path):
    put(tmp_path, "metrics.json", METRICS)
    put(tmp_path, "cost.json", COST)
    put(tmp_path, "environment.json", {"dataset": {"name": "x", "classes": []}, "python": "3"})
    assert run_files.read_metrics(tmp_path) == METRICS
    assert run_files.read_cost(tmp_path) == COST
    assert run_files.read_environment(tmp_path)["python"] == "3"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"metrics": {"mIoU": "0.5"}}, "metrics.mIoU"),
        ({"metrics": {"mIoU": float("nan")}}, "metrics.mIoU"),
        ({"metrics": {"mIoU": 10**400}}, "metrics.mIoU"),
        ({"metrics": [1]}, "metrics"),
        ({"images": -1}, "images"),
        ({"images": True}, "images"),
        ({"per_class": {"cat": 3}}, "per_class.cat"),
        ({"primary": None}, "primary"),
        ({"nms": {"off": []}}, "nms.off"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, place):
    put(tmp_path, "metrics.json", METRICS | change)
    with pytest.raises(ModelError, match=rf"metrics\.json: {place}"):
        run_files.read_metrics(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        *({"params": "7"}, {"latency_ms": 3}, {"gflops_input": [1]}, {"machine": 4}),
        *({"parts": {"backbone": 3}}, {"flops_uncounted": [{"op": "max"}]}),
    ],
)
def test_costs_of_another_kind(tmp_path, change):
    put(tmp_path, "cost.json", COST | change)
    with pytest.raises(ModelError, match=rf"cost\.json: {next(iter(change))}"):
        run_files.read_cost(tmp_path)


def test_weights_without_a_source(tmp_path):
    put(tmp_path, "environment.json", {"dataset": {"name": "x"}, "weights": [{}]})
    with pytest.raises(ModelError, match=r"environment\.json: weights\.0\.source"):
        run_files.read_environment(tmp_path)


def test_a_run_that_is_not_finished(tmp_path):
    with pytest.raises(ModelError, match="not finished") as found:
        run_files.read_metrics(tmp_path)
    assert "--resume" in str(found.value.hint)


def test_half_a_last_line_of_the_log_is_left_out_and_any_other_named(tmp_path):
    good = json.dumps({"step": 1, "loss": float("inf"), "lr": 0.1})
    assert run_files.read_log(tmp_path) == []
    put(tmp_path, "log.jsonl", f"{good}\n{good[:9]}")
    assert [entry["step"] for entry in run_files.read_log(tmp_path)] == [1]
    for line in (good[:9], "null", "[1]", '{"loss": 1}', '{"step": "1"}', '{"step": 1, "metrics": 4}', "1" * 5000):
        put(tmp_path, "log.jsonl", f"{good}\n{line}\n{good}\n")
        with pytest.raises(ModelError, match=r"log\.jsonl, line 2"):
            run_files.read_log(tmp_path)
