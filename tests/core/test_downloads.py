"""The downloader against a server on the loopback interface that breaks off, lies, stalls and changes its mind."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import segcli
from segcli.core import downloads as module
from segcli.core.downloads import cache_dir, fetch
from segcli.core.errors import DataError, ModelError

BODY = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(12_000))  # 384,000 bytes
DIGEST = hashlib.sha256(BODY).hexdigest()
HALF = 200_000


class Server(http.server.ThreadingHTTPServer):
    """`respond(handler, number)` answers request `number` (from 0); `seen` keeps every request's headers."""

    daemon_threads = True
    respond: Callable

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[dict[str, str]] = []
        self.stalled = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        self.server.respond(self, len(self.server.seen) - 1)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def send(handler: Handler, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def honest(handler: Handler, body: bytes = BODY, tag: str = '"a"', cut: int | None = None) -> None:
    """A server that knows ranges; `cut`: bytes after which it breaks off."""
    start = 0
    if "Range" in handler.headers and handler.headers.get("If-Range", tag) == tag:
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    rest = body[start:]
    extra = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
    sent = rest if cut is None else rest[:cut]
    send(handler, sent, 206 if start else 200, length=len(rest), ETag=tag, **extra)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "BACKOFF", 0.01)
    running = Server()
    running.respond = lambda handler, _: honest(handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.stalled.set()
    running.shutdown()
    running.server_close()


def get(server: Server, target: Path, **settings) -> Path:
    return fetch(server.address, target, progress=False, **settings)


def only(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_arrives_and_is_not_loaded_again(server, tmp_path):
    target = tmp_path / "가중치 🐈" / "a.pth"
    assert get(server, target, sha256=DIGEST) == target
    assert get(server, target, sha256=DIGEST).read_bytes() == BODY
    assert len(server.seen) == 1
    assert only(target.parent) == ["a.pth"]


def test_a_broken_connection_is_continued_where_it_broke(server, tmp_path):
    server.respond = lambda handler, n: honest(handler, cut=HALF if n == 0 else None)
    assert get(server, tmp_path / "a", sha256=DIGEST).read_bytes() == BODY
    first, second = server.seen
    assert "Range" not in first
    start = int(second["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= HALF
    assert second["If-Range"] == '"a"'
    assert only(tmp_path) == ["a"]


def test_a_later_call_continues_what_an_earlier_one_began(server, tmp_path):
    def dying(handler, number):
        return honest(handler, cut=HALF) if number == 0 else handler.connection.close()

    server.respond = dying
    with pytest.raises(ModelError, match=r"weights\.pth can't be downloaded: the connection broke") as caught:
        get(server, tmp_path / "a", sha256=DIGEST)
    assert "continued" in caught.value.hint
    assert not (tmp_path / "a").exists()
    server.respond = lambda handler, _: honest(handler)
    get(server, tmp_path / "a", sha256=DIGEST)
    assert int(server.seen[-1]["Range"].removeprefix("bytes=").removesuffix("-")) > 0


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.respond = lambda handler, n: send(handler, BODY[:HALF] if n == 0 else BODY, length=len(BODY), ETag='"a"')
    assert get(server, tmp_path / "a", sha256=DIGEST).read_bytes() == BODY
    assert len(server.seen) == 2


def test_a_file_that_changed_on_the_server_is_begun_again(server, tmp_path):
    newer = BODY[::-1]
    server.respond = lambda handler, n: honest(handler, cut=HALF) if n == 0 else honest(handler, newer, '"b"')
    assert get(server, tmp_path / "a").read_bytes() == newer


@pytest.mark.parametrize("lie", [{"ETag": '"b"'}, {"Content_Range": f"bytes 7-{len(BODY) - 1}/{len(BODY)}"}])
def test_a_continuation_of_something_else_is_not_appended(server, tmp_path, lie):
    """Servers that ignore If-Range, or send another range than was asked for."""

    def lying(handler, number):
        if "Range" not in handler.headers:
            return honest(handler, cut=HALF if number == 0 else None)
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        right = {"ETag": '"a"', "Content_Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"}
        return send(handler, b"x" * (len(BODY) - start), 206, **{**right, **lie})

    server.respond = lying
    assert get(server, tmp_path / "a").read_bytes() == BODY
    assert len(server.seen) == 3


def test_what_had_arrived_whole_is_not_loaded_again(server, tmp_path):
    """A process that died between the last byte and the renaming."""
    (tmp_path / "a.part").write_bytes(BODY)
    (tmp_path / "a.part.tag").write_text('"a"')
    server.respond = lambda handler, _: send(handler, b"", 416, Content_Range=f"bytes */{len(BODY)}")
    assert get(server, tmp_path / "a", sha256=DIGEST).read_bytes() == BODY
    assert len(server.seen) == 1
    assert only(tmp_path) == ["a"]


def test_wrong_content_is_an_error_and_removed(server, tmp_path):
    server.respond = lambda handler, _: send(handler, b"<html>Please log in</html>", ETag='"a"')
    with pytest.raises(DataError, match=r"not the expected file: its sha256 begins with [0-9a-f]{16}, not") as caught:
        get(server, tmp_path / "a", sha256=DIGEST, error=DataError)
    assert "removed" in caught.value.hint
    assert not {"a", "a.part", "a.part.tag"} & set(only(tmp_path))


@pytest.mark.parametrize(
    "digests",
    [{"sha256": DIGEST[:8]}, {"md5": hashlib.md5(BODY, usedforsecurity=False).hexdigest()[:6].upper()}],
)
def test_the_first_digits_of_a_digest_are_checked(server, tmp_path, digests):
    get(server, tmp_path / "a", **digests)
    wrong = dict.fromkeys(digests, "0" * 6)
    with pytest.raises(ModelError, match="begins with"):
        get(server, tmp_path / "b", **wrong)


def test_the_digest_that_the_server_states_is_checked(server, tmp_path):
    """As Hugging Face does for large files."""
    server.respond = lambda handler, n: send(handler, BODY, X_Linked_ETag=f'"{DIGEST if n == 0 else "0" * 64}"')
    get(server, tmp_path / "a")
    with pytest.raises(ModelError, match="sha256"):
        get(server, tmp_path / "b")


def test_a_file_in_place_is_checked_and_never_removed(server, tmp_path):
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(ModelError, match="is not the file from") as caught:
        get(server, tmp_path / "a", sha256=DIGEST)
    assert "remove it" in caught.value.hint
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert not server.seen


def test_a_length_that_never_comes_is_an_error(server, tmp_path):
    server.respond = lambda handler, _: send(handler, BODY, length=len(BODY) + 5)
    with pytest.raises(ModelError, match="can't be downloaded"):
        get(server, tmp_path / "a")
    assert len(server.seen) == module.ATTEMPTS
    assert not (tmp_path / "a").exists()


def test_a_length_that_is_too_short_is_caught_by_the_digest(server, tmp_path):
    server.respond = lambda handler, _: send(handler, BODY, length=1000)
    with pytest.raises(ModelError, match="sha256"):
        get(server, tmp_path / "a", sha256=DIGEST)


def test_a_stalled_server_is_tried_again_and_then_named(server, tmp_path):
    def stall(handler, number):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:100])
        handler.wfile.flush()
        handler.server.stalled.wait(20)

    server.respond = lambda handler, n: stall(handler, n) if n == 0 else honest(handler)
    get(server, tmp_path / "a", sha256=DIGEST, timeout=0.2)
    server.respond = stall
    with pytest.raises(ModelError, match="stopped answering"):
        get(server, tmp_path / "b", timeout=0.1)


def test_a_busy_server_is_tried_again_and_a_refusal_is_not(server, tmp_path):
    server.respond = lambda handler, n: send(handler, b"", 503) if n < 2 else honest(handler)
    get(server, tmp_path / "a", sha256=DIGEST)
    assert len(server.seen) == 3
    server.respond = lambda handler, _: send(handler, b"", 404)
    with pytest.raises(ModelError, match="the server answers 404"):
        get(server, tmp_path / "b")
    assert len(server.seen) == 4


def test_nobody_there(monkeypatch, tmp_path, server):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    address = server.address
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match="connection was refused") as caught:
        fetch(address, tmp_path / "a", progress=False)
    assert caught.value.hint == f"without a connection, load it on another machine and put it here: {tmp_path / 'a'}"


def test_a_full_disk_is_one_line(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ModelError, match=r"a: can't be written: No space left on device"):
        get(server, tmp_path / "a")


def test_two_processes_at_once_load_it_once(server, tmp_path):
    arrived, gate = threading.Event(), threading.Event()

    def slow(handler, number):
        arrived.set()
        gate.wait(60)
        honest(handler)

    server.respond = slow
    code = "import sys, pathlib; from segcli.core.downloads import fetch; fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, server.address, str(tmp_path / "a")]
    folder = Path(segcli.__file__).parents[1]
    first, second = (subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) for _ in range(2))
    assert arrived.wait(60)
    time.sleep(0.3)
    gate.set()
    reports = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], reports
    assert len(server.seen) == 1
    assert (tmp_path / "a").read_bytes() == BODY
    assert only(tmp_path) == ["a"]


def test_the_cache_can_be_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("SEGCLI_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "segcli"
