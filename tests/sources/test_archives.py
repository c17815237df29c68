"""Archives that climb, link, explode or are damaged are refused, and nothing of them appears outside."""

import io
import stat
import tarfile
import zipfile

import pytest

from segcli.core.errors import DataError, SegcliError
from segcli.sources import archives
from segcli.sources.archives import space_for, unpack


def zipped(path, entries, **links):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in entries.items():
            pack.writestr(name, content)
        for name, target in links.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            pack.writestr(entry, target)
    return path


def tarred(path, entries, mode="w", members=()):
    with tarfile.open(path, mode) as pack:
        for name, content in entries.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            pack.addfile(item, io.BytesIO(content))
        for item in members:
            pack.addfile(item)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_what_is_inside_comes_out(tmp_path, kind):
    content = {"a/one.txt": b"1", "a/b/두.txt": b"22", "c.bin": bytes(3000)}
    path = tmp_path / f"x.{kind}"
    zipped(path, content) if kind == "zip" else tarred(path, content, "w:gz" if kind == "tgz" else "w")
    assert unpack(path, tmp_path / "out") == 3
    assert {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")} == content


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "C:\\out.txt", "..\\out.txt"])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_climb(tmp_path, name, make):
    path = make(tmp_path / "x.pack", {name: b"mine"})
    with pytest.raises(DataError, match="leads out"):
        unpack(path, tmp_path / "deep/er/out")
    assert not list(tmp_path.rglob("out.txt"))


def test_links_and_devices(tmp_path):
    with pytest.raises(DataError, match=r"'way' is a link"):
        unpack(zipped(tmp_path / "x.zip", {}, way="/etc"), tmp_path / "a")
    for kind, said in ((tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.FIFOTYPE, "device")):
        item = tarfile.TarInfo("way")
        item.type, item.linkname = kind, "/etc"
        behind = tarfile.TarInfo("way/passwd")
        with pytest.raises(DataError, match=f"'way' is a {said}"):
            unpack(tarred(tmp_path / "x.tar", {}, members=[item, behind]), tmp_path / "b")
    assert not (tmp_path / "b/way").exists()


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE", 1000)
    path = zipped(tmp_path / "x.zip", {"zeros": bytes(2_000_000)})
    with pytest.raises(DataError, match="200 times its own size"):
        unpack(path, tmp_path / "out")
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*")) == 0
    with pytest.raises(DataError, match="200 times its own size"):
        unpack(tarred(tmp_path / "x.tgz", {"zeros": bytes(2_000_000)}, "w:gz"), tmp_path / "out")
    monkeypatch.setattr(archives, "MOST", 3)
    with pytest.raises(DataError, match="more than 3 files"):
        unpack(zipped(tmp_path / "y.zip", {str(i): b"x" for i in range(5)}), tmp_path / "many")


def test_a_size_that_is_a_lie(tmp_path):
    """An entry that declares a hundred bytes and has two million writes a hundred, which are not what was packed."""
    path = zipped(tmp_path / "x.zip", {"zeros": bytes(2_000_000)})
    data = path.read_bytes()
    path.write_bytes(data.replace((2_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(DataError, match="can't be unpacked"):
        unpack(path, tmp_path / "out")
    assert (tmp_path / "out/zeros").stat().st_size <= 100


def test_names_that_collide(tmp_path):
    with pytest.raises(DataError, match="two of its files"):
        unpack(tarred(tmp_path / "x.tar", {"a.PNG": b"1", "a.png": b"2"}), tmp_path / "out")


@pytest.mark.parametrize("mode", ["zip", "tgz", "nothing"])
def test_damaged_archives(tmp_path, mode):
    import random

    noise = random.Random(0).randbytes(50_000)
    path = tmp_path / "x.pack"
    if mode == "nothing":
        path.write_bytes(noise)
    else:
        zipped(path, {"a": noise}) if mode == "zip" else tarred(path, {"a": noise}, "w:gz")
        data = bytearray(path.read_bytes())
        path.write_bytes(data[:20_000] if mode == "tgz" else data[:20_000] + bytes(500) + data[20_500:])
    with pytest.raises(DataError, match="can't be unpacked"):
        unpack(path, tmp_path / "out")


def test_a_disk_that_is_too_small(tmp_path):
    with pytest.raises(SegcliError, match="are needed"):
        space_for(10**18, tmp_path / "not/there/yet")
    space_for(1, tmp_path)


def test_modes_and_dates_of_another_machine_are_left_there(tmp_path):
    item = tarfile.TarInfo("a/b.txt")
    item.mode, item.mtime = 0o200, 1
    unpack(tarred(tmp_path / "x.tar", {}, members=[item]), tmp_path / "out")
    (tmp_path / "own").touch()
    one, own = (tmp_path / "out/a/b.txt").stat(), (tmp_path / "own").stat()
    assert one.st_mode == own.st_mode
    assert abs(one.st_mtime - own.st_mtime) < 60
