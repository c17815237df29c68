"""Plugins: found by bare name, checked against their own signature."""

import dataclasses
import importlib.metadata
import inspect
from types import ModuleType

import pytest

from segcli.core import plugins
from segcli.core.errors import UsageError


def build(*, width: int, ratio: float = 1.0, sizes: tuple[int, int] = (1, 2), name: str | None = None, channels: int):
    return width, ratio, sizes, name, channels


def refused(settings: dict) -> str:
    with pytest.raises(UsageError) as caught:
        plugins.call(build, settings, "model.heads.box", channels=256)
    return str(caught.value)


def test_settings_reach_the_builder_with_what_segcli_gives():
    assert plugins.call(build, {"width": 3, "sizes": [4, 5]}, "model", channels=256, unused=1) == (
        3,
        1.0,
        (4, 5),
        None,
        256,
    )


def test_unknown_missing_and_mistyped_settings_are_listed_together():
    message = refused({"ratoi": 2, "sizes": "big", "ratio": "x"})
    assert "model.heads.box.ratoi is not a setting here (did you mean 'ratio'?)" in message
    assert "model.heads.box.width is missing" in message
    assert "model.heads.box.sizes: input should be a valid tuple, not 'big'" in message
    assert "model.heads.box.ratio: input should be a valid number" in message


@dataclasses.dataclass(frozen=True)
class Loss:
    box: float
    class_: float = 1.0


def with_section(*, width: int = 1, loss: Loss):
    return width, loss


def test_a_dataclass_is_a_section_that_is_checked_alike():
    assert plugins.call(with_section, {"loss": {"class": 2, "box": 3}}, "model") == (1, Loss(3.0, 2.0))
    assert plugins.defaults(with_section) == {"width": 1, "loss.box": inspect.Parameter.empty, "loss.class": 1.0}
    for settings, message in [
        ({}, "model.loss.box is missing"),
        ({"loss": None}, "model.loss.box is missing"),
        ({"loss": {"box": 1, "clas": 2}}, "model.loss.clas is not a setting here (did you mean 'class'?)"),
        ({"loss": {"box": 1, "class_": 2}}, "model.loss.class_ is not a setting here"),
        ({"loss": {"box": "x"}}, "model.loss.box: input should be a valid number"),
        ({"loss": 3}, "model.loss: input should be a mapping of keys to values"),
        ({"los": {}, "loss": {"bix": 1}}, "model.loss.bix is not a setting here (did you mean 'box'?)"),
    ]:
        with pytest.raises(UsageError) as caught:
            plugins.call(with_section, settings, "model")
        assert message in str(caught.value)


def test_what_segcli_gives_is_no_setting():
    assert "model.heads.box.channels is not a setting here" in refused({"width": 1, "channels": 3})


def test_a_name_that_is_not_there_gets_the_nearest():
    with pytest.raises(UsageError, match=r"r.yaml: model.name: no model is called 'rcn'") as caught:
        plugins.find("model", "rcn", "r.yaml: model.name")
    assert caught.value.hint == "did you mean 'rcnn'?"
    for bad in ("os.path", "../rcnn", "_hidden", ""):
        with pytest.raises(UsageError, match="is called"):
            plugins.find("model", bad)


@pytest.mark.parametrize("kind", plugins.FILES)
def test_every_listed_plugin_can_be_found_and_built(kind):
    for name in plugins.names(kind):
        assert callable(plugins.find(kind, name).build)


def installed(monkeypatch, name: str, module: object) -> None:
    point = importlib.metadata.EntryPoint(name, "their_package:thing", plugins.GROUP)
    monkeypatch.setattr(plugins, "registered", lambda: [point])
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: module)


def test_an_installed_package_adds_a_plugin(monkeypatch):
    module = ModuleType("their_package")
    module.build = build
    installed(monkeypatch, "head:theirs", module)
    assert plugins.find("head", "theirs") is module
    assert "theirs" in plugins.names("head")
    assert "theirs" not in plugins.names("backbone")


@pytest.mark.parametrize("kind", plugins.FILES)
def test_all_plugins_of_a_kind(monkeypatch, kind):
    module = ModuleType("their_package")
    module.build = build
    installed(monkeypatch, f"{kind}:theirs", module)
    found = plugins.every(kind)
    assert found == {name: plugins.find(kind, name) for name in plugins.names(kind)}
    assert found["theirs"] is module


def test_packages_are_read_once_and_again_after_an_installation(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    before, ask, asked = plugins.names("head"), importlib.metadata.entry_points, []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: asked.append(group) or ask(group=group))
    assert plugins.names("head") == before
    assert not asked
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nhead:theirs = theirs:head\n")
    for _ in range(2):
        assert plugins.names("head") == sorted([*before, "theirs"])
    assert asked == [plugins.GROUP]


def test_an_installed_plugin_cannot_replace_a_built_in_one(monkeypatch):
    installed(monkeypatch, "model:rcnn", ModuleType("theirs"))
    with pytest.raises(UsageError, match="has the name of a built-in model"):
        plugins.find("model", "rcnn")


def test_two_packages_with_one_name_are_both_named(monkeypatch):
    """Which of them was found would otherwise depend on the order of folders on the path."""
    points = [importlib.metadata.EntryPoint("head:theirs", f"{who}.head", plugins.GROUP) for who in ("one", "two")]
    monkeypatch.setattr(plugins, "registered", lambda: points)
    with pytest.raises(UsageError, match=r"two packages have a plugin head:theirs: .*\(one.head\) and .*\(two.head\)"):
        plugins.find("head", "theirs")
    monkeypatch.setattr(plugins, "registered", lambda: [points[0], points[0]])
    assert plugins.names("head").count("theirs") == 1


def test_a_plugin_without_build_is_named(monkeypatch):
    installed(monkeypatch, "head:theirs", ModuleType("theirs"))
    with pytest.raises(UsageError, match=r"head:theirs .* defines no build"):
        plugins.find("head", "theirs")


def test_a_plugin_that_breaks_on_import_is_named(monkeypatch):
    installed(monkeypatch, "head:theirs", None)

    def fail(self):
        raise RuntimeError("no such library")

    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", fail)
    with pytest.raises(UsageError, match=r"head:theirs .* no such library"):
        plugins.find("head", "theirs")
