"""The keys of `data.augment`: what is wrong with them is named; another package adds keys of its own, one a module."""

import importlib.metadata
import sys
import types
from typing import Annotated

import numpy as np
import pydantic
import pytest

from segcli.core import plugins
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.augment.compose import build_augment
from segcli.data.augment.stages import Change, Usual
from segcli.types import Instances, Sample, Target

INFO = DatasetInfo("known", (Category("a", 1),), {"train": 1})
SAMPLE = Sample(np.full((8, 12, 3), 100, np.uint8), Target(1, (8, 12), Instances.empty((8, 12))), "a.png", (8, 12))


class Darker(Change):
    def __init__(self, by):
        self.by = by

    def change(self, scene, draw, rng):
        scene.image -= np.uint8(self.by)


def build(*, darker: Annotated[int, pydantic.Field(ge=1, le=99), Usual(10)], twice: bool = False):
    return Darker(darker * (1 + twice))


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    module = types.ModuleType("their_package")
    module.build = build
    monkeypatch.setitem(sys.modules, "their_package", module)
    point = importlib.metadata.EntryPoint("augmentation:darker", "their_package", plugins.GROUP)
    monkeypatch.setattr(plugins, "registered", lambda: [point])


def augmented(settings, seed=0):
    augment = build_augment(settings, canvas=None, info=INFO)
    return augment(SAMPLE, np.random.default_rng(seed), lambda: SAMPLE)


@pytest.mark.parametrize(
    ("settings", "grey"), [({"darker": 5}, 95), ({"darker": True}, 90), ({"darker": 5, "twice": True}, 90)]
)
def test_it_is_a_key_of_the_recipe(settings, grey):
    assert (augmented(settings).image == grey).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"darker": 100}, r"data\.augment\.darker: .* less than or equal to 99, not 100"),
        ({"darkr": 1}, r"data\.augment\.darkr is not a setting \(did you mean 'darker'"),
        ({"twice": True}, r"data\.augment\.twice is not a setting"),  # the package is not asked without its own key
    ],
)
def test_its_signature_is_the_schema(settings, message):
    with pytest.raises(UsageError, match=message):
        build_augment(settings, canvas=None, info=INFO)


def test_the_others_draw_as_without_it():
    settings = {"flip": 0.5, "rot90": True}
    for seed in range(4):
        assert np.array_equal(augmented({**settings, "darker": 1}, seed).image, augmented(settings, seed).image - 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flipp": 0.5}, r"data\.augment\.flipp is not a setting \(did you mean 'flip'\?\)"),
        ({"color": 1}, "did you mean 'colour'"),
        ({"flip": 1.5}, r"data\.augment\.flip: input should be less than or equal to 1, not 1\.5"),
        ({"flip": "yes"}, r"data\.augment\.flip: .*, not 'yes'"),
        ({"scale": [1.3, 0.6]}, r"data\.augment\.scale"),
        ({"scale": "big"}, r"data\.augment\.scale"),
        ({"aspect": True}, r"data\.augment\.aspect"),
        ({"blur": float("nan")}, r"data\.augment\.blur"),
        ({"flipp": 1, "blur": 3}, r"flipp.*; data\.augment\.blur"),
        ({"rotate": 181}, r"data\.augment\.rotate: .* less than or equal to 180, not 181"),
        ({"short_side": [8]}, r"data\.augment\.short_side"),
        ({"scale_crop": True}, "needs data.augment.short_side"),
        ({"short_side": 80, "crop": 64}, "short_side decides the size: leave crop away"),
        ({"short_side": 80, "crop": 64, "scale": 1}, "leave scale and crop away"),
        ({"crop": 64.0}, r"data\.augment\.crop: .*integer"),
        ({"min_visible": True}, r"data\.augment\.min_visible: .*, not True"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(UsageError, match=message):
        build_augment(settings, canvas=(64, 64), info=INFO)


def test_a_setting_without_effect_needs_no_partner():
    assert build_augment({"scale_crop": 0, "flip": 0.5}, canvas=(64, 64), info=INFO) is not None
    with pytest.raises(UsageError, match=r"needs data\.augment\.short_side"):
        build_augment({"scale_crop": 0.1}, canvas=(64, 64), info=INFO)


def test_scale_needs_a_canvas():
    with pytest.raises(UsageError, match="scale"):
        build_augment({"scale": [0.5, 1]}, canvas=None, info=INFO)


def test_no_settings_are_no_augmentation():
    assert build_augment({}, canvas=None, info=INFO) is None
