"""An interrupted prediction goes on: nothing is predicted twice, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bright import INFO, RECIPE, Bright, photo

from segcli.commands.predict import files, journal
from segcli.commands.predict.files import predict_files
from segcli.commands.predictor import Predictor
from segcli.models.exported.description import Description
from segcli.models.exported.exported import ExportedModel

SCRIPT = """
import sys, time
from bright import INFO, RECIPE, Bright
from segcli.commands.predict.files import predict_files
from segcli.commands.predictor import Predictor
class Slow(Bright):
    def predict(self, batch):
        time.sleep(0.2)
        return super().predict(batch)
predict_files(Predictor(Slow(), RECIPE, INFO), [sys.argv[1]], sys.argv[2], progress=False)
"""


@pytest.fixture
def folder(tmp_path):
    for k in range(24):
        photo(tmp_path / "in" / f"{k}.png", 40 + k, (k, k + 10))
    return tmp_path / "in"


def files_of(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_a_killed_call_goes_on_without_predicting_or_losing_an_image_twice(folder, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", SCRIPT, str(folder), str(out)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as process:
        until = time.monotonic() + 60
        lines = lambda: (out / journal.FILE).read_bytes().count(b"\n") if (out / journal.FILE).is_file() else 0
        while lines() < 5 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (out / "predictions.json").exists()
    with open(out / journal.FILE, "ab") as file:
        file.write(b'{"position": 23, "fi')  # as if it had been killed within a line
    before = lines() - 1
    model = Bright()
    report = predict_files(Predictor(model, RECIPE, INFO), [folder], out, progress=False)
    assert (report.images, report.detections, report.earlier) == (24, 24, before)
    assert sum(model.batches) == 24 - before > 0
    predict_files(Predictor(Bright(), RECIPE, INFO), [folder], tmp_path / "whole", progress=False)
    assert files_of(out) == files_of(tmp_path / "whole")


def interrupted(folder, out, **settings):
    """Predict three batches and stop as Ctrl-C does."""
    model = Bright()
    usual = model.predict

    def predict(batch):
        if len(model.batches) == 5:
            raise KeyboardInterrupt
        return usual(batch)

    model.predict = predict
    with pytest.raises(KeyboardInterrupt):
        predict_files(Predictor(model, RECIPE, INFO), [folder], out, progress=False, **settings)


def test_what_changed_since_is_predicted_again(folder, tmp_path):
    out = tmp_path / "out"
    interrupted(folder, out)
    done = len((out / journal.FILE).read_bytes().splitlines()) - 1
    assert done >= 5
    assert journal.begun_by(out) == [str(folder)]
    assert not files.is_finished(out)
    photo(folder / "1.png", 90)  # another image under the same name
    (out / "masks" / "2.png").unlink()
    model = Bright()
    report = predict_files(Predictor(model, RECIPE, INFO), [folder], out, progress=False)
    assert report.images == 24
    assert sum(model.batches) == 24 - done + 2
    data = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    assert [i["height"] for i in data["images"]][:3] == [40, 90, 42]


def test_other_settings_begin_anew(folder, tmp_path):
    out = tmp_path / "out"
    interrupted(folder, out)
    report = predict_files(Predictor(Bright(), RECIPE, INFO), [folder], out, score=0.3, progress=False)
    assert (report.earlier, report.detections) == (0, 48)


def test_another_exported_file_begins_anew(folder, tmp_path):
    """Its weights lie in the file, where no state_dict shows them."""
    out = {"boxes": np.array([[1, 1, 9, 9]], np.float32), "labels": np.zeros(1, np.int64), "scores": np.ones(1)}
    seen = []

    def exported(digest, stop=99):
        def run(image):
            seen.append(digest)
            if len(seen) == stop:
                raise KeyboardInterrupt
            return out

        about = {"target": "onnx", "segcli": "", "torch": "", "name": "toy", "task": "instance", "digest": digest}
        about |= {"classes": INFO.names, "outputs": list(out), "canvas": (64, 64), "recipe": {}, "environment": {}}
        return Predictor(ExportedModel(Description(**about), INFO, run), RECIPE, INFO)

    call = lambda predictor: predict_files(predictor, [folder], tmp_path / "out", save=["coco"], progress=False)
    with pytest.raises(KeyboardInterrupt):
        call(exported("a", stop=20))
    assert call(exported("b")).earlier == 0
    assert seen.count("b") == 24
