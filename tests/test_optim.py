"""Learning rates, weight decay and the average of the weights, as a recipe's `train` section sets them."""

import pytest
import torch
from torch import nn

from segcli.errors import ModelError
from segcli.optim import MovingAverage
from segcli.recipe import Recipe
from segcli.run import RunFolder
from segcli.session import Session

# torch's stand-in for every device that is not the CPU: it refuses to compute with tensors of both
ELSEWHERE = torch.device("meta")


def session(folder, device, **train):
    recipe = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": "detr"}}
    parsed = Recipe.parse({**recipe, "train": {"steps": 8, "ema": 0.9, **train}}, "r.yaml")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(device)
    return Session(RunFolder(folder), parsed, model, 8, torch.device(device))


def test_a_resumed_average_lies_where_the_model_does(tmp_path):
    """Saved on one device, taken up on another: the average goes on there."""
    before = session(tmp_path, "cpu")
    before.average.update(before.model, 1)
    before.save()
    resumed = session(tmp_path, ELSEWHERE)
    resumed.restore()
    assert {value.device.type for value in resumed.average.state.values()} == {"meta"}
    resumed.average.update(resumed.model, 2)


def test_a_resumed_average_has_the_saved_numbers(tmp_path):
    before = session(tmp_path, "cpu")
    with torch.no_grad():
        before.model[0].weight.add_(1.0)
    before.average.update(before.model, 1)
    before.save()
    resumed = session(tmp_path, "cpu")
    resumed.restore()
    assert all(torch.equal(value, resumed.average.state[key]) for key, value in before.average.state.items())
    assert not torch.equal(resumed.average.state["0.weight"], resumed.model.state_dict()["0.weight"])


def test_an_average_of_another_model_is_refused(tmp_path):
    average = MovingAverage(nn.Linear(3, 2), 0.9)
    with pytest.raises(RuntimeError, match="average of bias"):
        average.restore({"weight": torch.zeros(2, 3), "bias": torch.zeros(1)})
    with pytest.raises(KeyError, match="extra"):
        average.restore({**average.state, "extra": torch.zeros(1)})
    session(tmp_path, "cpu", ema=None).save()
    with pytest.raises(ModelError, match="no average of the weights"):
        session(tmp_path, "cpu").restore()
