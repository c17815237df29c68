"""A checkpoint is checked whole before any of it is used."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from segcli.core.errors import ModelError
from segcli.engine import training_state
from segcli.engine.session import Progress


@pytest.fixture(params=["AdamW", "SGD"])
def training(request):
    """A small model's optimiser after a step, and its state as it is saved."""
    model = nn.Linear(3, 2)
    kinds = {"AdamW": torch.optim.AdamW, "SGD": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)}
    optimizer = kinds[request.param](model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "ema": None,
        "optimizer": optimizer.state_dict(),
        "progress": dataclasses.asdict(Progress(step=1)),
        "rng": torch.get_rng_state(),
    }
    return optimizer, copy.deepcopy(state)


def check(training, state, total=10):
    training_state.check(state, "last.pt", training[0], Progress(), total)


def test_a_whole_state_passes(training):
    check(training, training[1])


@pytest.mark.parametrize("state", [None, [], 7, {}, {"model": {}}, torch.zeros(2)])
def test_no_state_at_all(training, state):
    with pytest.raises(ModelError, match=r"^last\.pt"):
        check(training, state)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("step", value) for value in (-5, 1.5, "1", 10**30, 11, None, True, float("nan"))),
        *((key, 10**400) for key in ("seconds", "cpu_seconds", "best")),
        *(("best", value) for value in ("x", float("nan"), -2.0, None)),
        *(("images", value) for value in (-1, 0.5)),
        *(("pixels", value) for value in (-1, 0.5, "1")),
        *(("cpu_seconds", value) for value in (-2.0, "1", float("nan"))),
        ("unknown", 1),
    ],
)
def test_progress_that_none_can_have(training, key, value):
    state = training[1]
    state["progress"][key] = value
    with pytest.raises(ModelError, match=r"^last\.pt: progress"):
        check(training, state)


def test_optimiser_states_of_other_shapes_and_kinds(training):
    name = next(k for k in training[1]["optimizer"]["state"][0] if k != "step")
    nan = torch.full((2, 3), float("nan"))
    for value in (
        torch.zeros(5),
        torch.zeros(2, 3, dtype=torch.int8),
        "x",
        torch.zeros(2, 3).to_sparse(),
        nan,
        -1 / nan,
    ):
        state = copy.deepcopy(training[1])
        state["optimizer"]["state"][0][name] = value
        with pytest.raises(ModelError, match=r"^last\.pt: optimizer"):
            check(training, state)
    for change in ({"state": 3}, {"param_groups": []}, {"param_groups": [3]}, {"state": {9: {}}}, {"state": {0: {}}}):
        if change == {"state": {0: {}}} and name == "momentum_buffer":
            continue  # without momentum SGD keeps nothing
        state = copy.deepcopy(training[1])
        state["optimizer"].update(change)
        with pytest.raises(ModelError, match=r"^last\.pt: optimizer"):
            check(training, state)
    state = copy.deepcopy(training[1])
    state["optimizer"]["param_groups"][0]["lr"] = "fast"
    with pytest.raises(ModelError, match="lr"):
        check(training, state)


def test_random_states_and_weights_of_another_kind(training):
    for key, value in (("rng", torch.zeros(3, dtype=torch.uint8)), ("rng", None), ("model", [1]), ("ema", "x")):
        with pytest.raises(ModelError, match=r"^last\.pt"):
            check(training, {**training[1], key: value})


@pytest.mark.parametrize("without", [("pixels",), ("pixels", "cpu_seconds"), ()])
def test_counts_that_earlier_versions_did_not_keep(training, without):
    state = training[1]
    for key in without:
        del state["progress"][key]
    check(training, state)
    state["progress"].update(dict.fromkeys(("pixels", "cpu_seconds")))
    check(training, state)
