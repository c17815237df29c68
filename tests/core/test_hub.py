"""The hub of models: what becomes of a connection that breaks off."""

import http.server
import json
import threading

import pytest
from huggingface_hub import constants

from segcli.core.errors import ModelError
from segcli.core.hub import folder_of

COMMIT = "a" * 40


class BreaksOff(http.server.BaseHTTPRequestHandler):
    """A hub that knows one model, and closes the connection in the middle of its configuration."""

    def do_GET(self):
        if self.path.startswith("/api/models/"):
            body = json.dumps({"id": "OWNER/NAME", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}).encode()
            self.answer(len(body))
            self.wfile.write(body)
        else:
            self.answer(10_000)
            self.wfile.write(b"{" * 100)
        self.close_connection = True

    def do_HEAD(self):
        self.answer(10_000)
        self.close_connection = True

    def answer(self, length):
        self.send_response(200)
        for key, value in (("X-Repo-Commit", COMMIT), ("ETag", '"e"'), ("Content-Length", str(length))):
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of this machine's own, whose files go to a folder of the test."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreaksOff)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts
    yield tmp_path / "hub"
    server.shutdown()
    server.server_close()


def test_a_connection_that_breaks_off_in_a_file_is_one_sentence_and_leaves_no_file(hub):
    with pytest.raises(ModelError, match=r"OWNER/NAME can't be loaded from the hub: ") as caught:
        folder_of("OWNER/NAME")
    assert "\n" not in str(caught.value)
    assert "a folder with config.json" in caught.value.hint
    assert [path for path in hub.rglob("config.json") if path.is_file()] == []
