"""Known datasets from a server on the loopback interface: fetched, checked, unpacked, prepared, and never by halves."""

import dataclasses
import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import photo, text

from segcli.commands.prepare import prepare
from segcli.core import downloads as fetching
from segcli.core import plugins
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset
from segcli.sources import known
from segcli.sources.known import KNOWN, Archive, obtain

CODE = """
import sys, dataclasses
from segcli.sources import known
address, digest, out = sys.argv[1:]
archive = known.Archive(address, digest or None)
known.KNOWN["pennfudan"] = dataclasses.replace(known.KNOWN["pennfudan"], archives=(archive,))
from segcli.commands.prepare import prepare
print(prepare("pennfudan", out))
"""


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        for i in range(6):
            ids = np.zeros((20, 30), np.uint8)
            ids[5:12, 3 : 9 + i] = 1
            rng = np.random.default_rng(i)
            for name, pixels in (
                (f"PNGImages/p{i}.png", rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)),
                (f"PedMasks/p{i}_mask.png", ids),
            ):
                png = io.BytesIO()
                Image.fromarray(pixels).save(png, "PNG")
                pack.writestr(f"PennFudanPed/{name}", png.getvalue())
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    body = b""
    cut: int | None = None  # bytes after which an answer breaks off, once
    asked = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/PennFudanPed.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked += 1
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0")) or 0)
        rest = server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", '"a"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        self.end_headers()
        cut, server.cut = server.cut, None
        self.wfile.write(rest[:cut])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server that has pennfudan's archive, of which segcli knows the digest."""
    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "BACKOFF", 0.01)
    with Server(("127.0.0.1", 0), Handler) as one:
        one.body = archive()
        threading.Thread(target=one.serve_forever, daemon=True).start()
        digest = f"sha256:{hashlib.sha256(one.body).hexdigest()}"
        told(monkeypatch, one, digest)
        yield one
        one.shutdown()


def told(monkeypatch, server, digest):
    entry = dataclasses.replace(KNOWN["pennfudan"], archives=(Archive(server.address, digest, 1000),))
    monkeypatch.setitem(known.KNOWN, "pennfudan", entry)


def test_downloaded_and_prepared_once(server, tmp_path, capsys):
    root = prepare("pennfudan", tmp_path / "out")
    said = capsys.readouterr().err
    assert "licence: no open licence" in said
    assert len(Dataset(root)) == 6
    assert "Wang" in Dataset(root).info.citation
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert any("PennFudanPed.zip (sha256:" in note for note in notes)
    assert not list((tmp_path / "cache").rglob("*.zip"))  # what is unpacked is not kept twice
    assert prepare("pennfudan", tmp_path / "out") == root
    prepare("pennfudan", tmp_path / "again", split="train=0.5,val=0.5")
    assert server.asked == 1


def test_a_server_that_stops_half_way(server, tmp_path):
    server.cut = len(server.body) // 2
    assert len(Dataset(prepare("pennfudan", tmp_path / "out"))) == 6
    assert server.asked == 2


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.body = server.body[:-1] + b"!"
    for _ in range(2):
        with pytest.raises(DataError, match="not the expected file"):
            prepare("pennfudan", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_an_unknown_digest_is_kept_from_the_first_download(server, monkeypatch, tmp_path):
    told(monkeypatch, server, None)
    folder, digests = obtain("pennfudan")
    assert digests == {"PennFudanPed.zip": f"sha256:{hashlib.sha256(server.body).hexdigest()}"}
    (folder.parent / ".PennFudanPed.zip.json").unlink()
    server.body = archive()[:-1] + b"!"
    with pytest.raises(DataError, match="not the expected file"):
        obtain("pennfudan")


def test_what_was_half_unpacked_is_done_again(server, monkeypatch, tmp_path):
    monkeypatch.setattr(known.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        obtain("pennfudan")
    monkeypatch.undo()
    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path / "cache"))
    told(monkeypatch, server, None)
    assert len(list((obtain("pennfudan")[0] / "PNGImages").iterdir())) == 6


def test_an_archive_that_climbs(server, monkeypatch, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        pack.writestr("../../../../evil.txt", "x")
    server.body = buffer.getvalue()
    told(monkeypatch, server, None)
    with pytest.raises(DataError, match="leads out"):
        prepare("pennfudan", tmp_path / "out")
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_copy_on_disk_needs_no_server(server, tmp_path):
    zipfile.ZipFile(io.BytesIO(server.body)).extractall(tmp_path / "downloads")
    for number, source in enumerate(("downloads", "downloads/PennFudanPed")):
        root = prepare("pennfudan", tmp_path / str(number), source_path=tmp_path / source)
        assert len(Dataset(root)) == 6
    assert server.asked == 0


def test_balloons_are_called_so(tmp_path):
    """Their regions have no attributes."""
    region = {"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 5, "height": 5}, "region_attributes": {}}
    for split in ("train", "val"):
        photo(tmp_path / "balloon" / split / "a.png")
        image = {f"a.png{split}": {"filename": "a.png", "regions": {"0": region}}}
        text(tmp_path / "balloon" / split / "via_region_data.json", image)
    root = prepare("balloon", tmp_path / "out", source_path=tmp_path)
    assert Dataset(root).info.names == ["balloon"]


def test_two_processes_at_once(server, tmp_path):
    digest = KNOWN["pennfudan"].archives[0].digest
    command = [sys.executable, "-c", CODE, server.address, digest, str(tmp_path / "out")]
    folder = Path(known.__file__).parents[2]
    both = [subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    reports = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], reports
    assert server.asked == 1
    assert len(Dataset(tmp_path / "out")) == 6
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache(server, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="can't be written"):
        obtain("pennfudan")


def test_a_cache_that_is_a_file(server, tmp_path):
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(ValueError, match="can't be written"):
        obtain("pennfudan")


def test_the_table_is_whole():
    assert {"pennfudan", "balloon", "coco2017", "ade20k", "camvid", "voc2012", "nuclei"} <= set(KNOWN)
    for name, entry in KNOWN.items():
        assert all((entry.licence, entry.citation, entry.home)), name
        for one in entry.archives:
            assert re.fullmatch(r"https?://\S+\.(zip|tar)", one.address)
            assert one.digest is None or re.fullmatch(r"sha256:[0-9a-f]{64}|sha1:[0-9a-f]{40}", one.digest)
    for name in ("pennfudan", "nuclei", "coco2017"):
        assert KNOWN[name].converter in plugins.names("format")
