"""Official weights that arrive wrong: refused with code 4, nothing half loaded stays, the next attempt is clean."""

import dataclasses
import functools
import hashlib
import http.server
import threading

import pytest
import torch

from segcli.core import downloads
from segcli.weights import official

NAME = "detr/r50"


@pytest.fixture
def publish(monkeypatch, tmp_path_factory, tmp_path):
    """`publish(content, digest=…)` puts the file behind detr/r50 on a loopback server; -> the cache's folder."""
    folder = tmp_path_factory.mktemp("published")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=folder))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(downloads, "BACKOFF", 0.01)
    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path / "cache"))

    def put(content, digest):
        (folder / f"weights-{digest[:8]}.pth").write_bytes(content)
        address = f"http://127.0.0.1:{server.server_port}/weights-{digest[:8]}.pth"
        monkeypatch.setitem(official.TABLE, NAME, dataclasses.replace(official.TABLE[NAME], address=address))
        return tmp_path / "cache" / "weights"

    yield put
    server.shutdown()
    server.server_close()


def files(folder):
    """But the empty file by which processes wait for one another."""
    return [p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_a_file_with_another_checksum(segcli, publish, tmp_path):
    cache = publish(b"something else", "0" * 64)
    result = segcli("eval", "coco/detr_r50", "--weights", NAME)
    assert result.code == 4
    assert "its sha256 begins with" in result.error
    assert "00000000" in result.error
    assert "licence Apache-2.0" in result.err
    assert files(cache) == []


def test_a_file_with_the_right_checksum_that_holds_half_a_model(segcli, publish, tmp_path):
    """Whoever published it published it truncated: the reader names the file."""
    torch.save({"model": {"w": torch.ones(50_000)}}, tmp_path / "whole.pth")
    half = (tmp_path / "whole.pth").read_bytes()[:90_000]
    cache = publish(half, hashlib.sha256(half).hexdigest())
    result = segcli("eval", "coco/detr_r50", "--weights", NAME)
    assert result.code == 4
    assert "can't be read as weights" in result.error
    assert len(files(cache)) == 1


def test_weights_of_another_variant_by_name(segcli, publish, tmp_path):
    torch.save({"model": {"class_embed.weight": torch.ones(92, 256)}}, tmp_path / "other.pth")
    content = (tmp_path / "other.pth").read_bytes()
    publish(content, hashlib.sha256(content).hexdigest())
    result = segcli("eval", "coco/detr_r50", "--weights", NAME)
    assert result.code == 4
    assert "weights of another model" in result.error
    assert "missing" in result.error
