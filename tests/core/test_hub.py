"""The hub of models: what is loaded from it, and what becomes of a connection that breaks off."""

import http.server
import json
import sys
import threading
from pathlib import Path

import pytest
import tiny_checkpoints
from huggingface_hub import constants
from PIL import Image

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


class Serves(BreaksOff):
    """A hub whose every model has the files of a folder; it counts what was asked for."""

    folder: Path
    asked = 0

    def do_GET(self):
        Serves.asked += 1
        if self.path.startswith("/api/models/"):
            paths = sorted(self.folder.iterdir())
            tree = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": COMMIT} for p in paths]
            model = {"id": "OWNER/NAME", "sha": COMMIT, "siblings": [{"rfilename": p.name} for p in paths]}
            body = json.dumps(tree if "/tree/" in self.path else model).encode()
        else:
            body = (self.folder / self.path.rsplit("/", 1)[-1]).read_bytes()
        self.answer(len(body))
        self.wfile.write(body)

    def do_HEAD(self):
        Serves.asked += 1
        self.answer((self.folder / self.path.rsplit("/", 1)[-1]).stat().st_size)

    def answer(self, length):
        self.send_response(200)
        tag = self.path.rsplit("/", 1)[-1]
        for key, value in (("X-Repo-Commit", COMMIT), ("ETag", f'"{tag}"'), ("Content-Length", str(length))):
            self.send_header(key, value)
        self.end_headers()


@pytest.fixture(params=[BreaksOff])
def hub(request, monkeypatch, tmp_path):
    """A hub of this machine's own, whose files go to a folder of the test."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), request.param)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    files = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, here)
    monkeypatch.setattr(constants, "ENDPOINT", here)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
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


def test_without_the_library_nothing_is_asked_of_the_hub(segcli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    Image.new("RGB", (60, 40)).save(tmp_path / "photo.png")
    result = segcli("predict", "coco/rf_detr_seg_nano", "photo.png", "--out", "out")
    assert result.code == 4
    assert "needs the package transformers" in result.error
    assert "pip install 'segcli[transformers]'" in result.err


@pytest.mark.parametrize("hub", [Serves], indirect=True)
def test_a_shipped_recipe_predicts_from_the_hub_and_then_from_the_cache(hub, segcli, tmp_path, monkeypatch):
    Serves.folder = tiny_checkpoints.save("RfDetrForInstanceSegmentation", tmp_path / "served")
    (Serves.folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    (Serves.folder / "pytorch_model.bin").write_bytes(b"pickled")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "photos" / "photo.png")
    run = lambda out: segcli("predict", "coco/rf_detr_seg_nano", "photos", "--out", out, "--score", 0, "--json")
    first = run("first")
    assert first.code == 0, first.err
    assert "loading Roboflow/rf-detr-seg-nano, licence apache-2.0, from huggingface.co" in first.err
    assert list(hub.rglob("*.bin")) == []
    found = json.loads((tmp_path / "first" / "predictions.json").read_text(encoding="utf-8"))
    assert found
    asked = Serves.asked
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # no hub any more
    second = run("second")
    assert second.code == 0, second.err
    assert "loading" not in second.err
    assert Serves.asked == asked
    assert json.loads((tmp_path / "second" / "predictions.json").read_text(encoding="utf-8")) == found
