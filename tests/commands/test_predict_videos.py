"""Videos: frames keep their times, objects keep their numbers, and what is broken is named."""

import csv
import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from bright import INFO, RECIPE, Beside, Bright
from pycocotools.coco import COCO

from segcli.commands.predict import frames, video
from segcli.commands.predict.frames import Film, Frames, is_video
from segcli.commands.predict.inference import How
from segcli.commands.predict.linking import GONE, Links
from segcli.commands.predict.video import predict_videos
from segcli.commands.predictor import Predictor
from segcli.core.errors import DataError, UsageError
from segcli.types import Instances


def film(path, frames=12, rate=Fraction(25, 2), times=None, size=(65, 99)):
    """A bright square that moves to the right."""
    with Film(path, rate) as out:
        for i in range(frames):
            image = np.full((*size, 3), 30, np.uint8)
            image[20:50, 10 + 2 * i : 40 + 2 * i] = 250
            out.add(times[i] if times else float(i / rate), image)
    return path


def times_of(path):
    with Frames(path) as frames:
        return [seconds for seconds, _ in frames]


@pytest.fixture
def toy():
    return Predictor(Bright("detection"), RECIPE, INFO)


def test_frames_keep_their_times_and_objects_their_numbers(tmp_path, toy):
    times = [0, 0.08, 0.16, 0.3, 0.31, 0.5, 0.58, 0.66, 0.74, 1.5, 1.58, 1.66]  # as phones record: not all apart alike
    source = film(tmp_path / "walk.mp4", times=times)
    out = tmp_path / "out"
    report = predict_videos(toy, [str(source)], out, How(0.1), save=["overlay", "coco", "csv"], progress=False)
    assert (report.videos, report.frames, report.objects, report.broken) == (1, 12, 2, 0)
    assert times_of(source) == pytest.approx(times, abs=1e-4)
    assert times_of(out / "walk.mp4") == pytest.approx(times, abs=1e-4)
    data = json.loads((out / "walk.json").read_text(encoding="utf-8"))
    assert [i["seconds"] for i in data["images"]] == pytest.approx(times, abs=1e-3)
    assert {(a["category_id"], a["track_id"]) for a in data["annotations"]} == {(17, 1), (3, 2)}
    assert [a["image_id"] for a in data["annotations"]] == [i for i in range(1, 13) for _ in range(2)]
    opened = COCO(out / "walk.json")
    assert sorted(opened.anns) == list(range(1, 25))
    assert all(a["area"] > 0 for a in opened.loadAnns(opened.getAnnIds(imgIds=[12], iscrowd=False)))
    rows = list(csv.DictReader((out / "walk.csv").open(encoding="utf-8-sig")))
    assert [row["number"] for row in rows] == ["1", "2"] * 12
    with Frames(out / "walk.mp4") as frames:
        assert next(iter(frames))[1].shape == (66, 100, 3)
    assert sorted(p.name for p in out.iterdir()) == ["walk.csv", "walk.json", "walk.mp4"]


def test_broken_frames_are_counted_and_the_rest_is_predicted(tmp_path, toy):
    source = film(tmp_path / "a.mp4", frames=40)
    with av.open(str(source)) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    content = bytearray(source.read_bytes())
    for position, size in packets[20:23]:
        content[position : position + size] = bytes(size)
    source.write_bytes(content)
    report = predict_videos(toy, [str(source)], tmp_path / "out", How(0.5), progress=False)
    assert report.broken >= 1
    assert report.damaged == [str(source)]
    assert 10 <= report.frames < 40


def test_what_is_no_video_is_skipped_and_named(tmp_path, toy):
    good = film(tmp_path / "good.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:200])
    (tmp_path / "text.avi").write_text("hello")
    with Film(tmp_path / "none.mp4", Fraction(10)):
        pass
    names = ["empty.mp4", "good.mp4", "cut.mp4", "text.avi", "none.mp4"]
    report = predict_videos(toy, [str(tmp_path / n) for n in names], tmp_path / "out", How(0.5), progress=False)
    assert report.videos == 1
    assert [source.rsplit("/", 1)[1] for source, _ in report.failed] == ["empty.mp4", "cut.mp4", "text.avi", "none.mp4"]
    assert all(source in reason for source, reason in report.failed)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.json", "good.mp4"]


def test_a_camera_that_is_not_there_and_kinds_of_files_that_videos_have_not(tmp_path, toy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_video("97")
    assert not is_video("gone.mp4")
    report = predict_videos(toy, ["97"], tmp_path / "out", How(0.5), progress=False)
    assert "camera 97: there is none" in report.failed[0][1]
    with pytest.raises(UsageError, match="--save labelme"):
        predict_videos(toy, ["97"], tmp_path / "out", How(0.5), save=["labelme"], progress=False)
    film(tmp_path / "a.mp4")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "a.json").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="not written by segcli"):
        predict_videos(toy, ["a.mp4"], tmp_path / "out", How(0.5), progress=False)


class Camera:
    """Never ends, and does not say how fast it is."""

    def __init__(self, number):
        self.number = number

    def isOpened(self):
        return True

    def get(self, what):
        return -1.0

    def read(self):
        return True, np.full((64, 96, 3), 200, np.uint8)

    def release(self):
        pass


def test_ctrl_c_ends_a_camera_whole_wherever_it_comes(tmp_path, toy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(frames.cv2, "VideoCapture", Camera)
    drawn = []

    def draw(image, *_, **__):
        drawn.append(image)
        if len(drawn) == 4:  # no frame is awaited then, and none predicted
            raise KeyboardInterrupt
        return image

    monkeypatch.setattr(video, "draw", draw)
    report = predict_videos(toy, ["0"], tmp_path / "out", How(0.1), progress=False)
    assert (report.videos, report.frames) == (1, 3)
    assert len(times_of(tmp_path / "out" / "camera-0.mp4")) == 3
    assert len(json.loads((tmp_path / "out" / "camera-0.json").read_text(encoding="utf-8"))["images"]) == 3
    drawn.clear()
    source = film(tmp_path / "a.mp4")
    with pytest.raises(KeyboardInterrupt):  # a file can be predicted again
        predict_videos(toy, [str(source)], tmp_path / "again", How(0.1), progress=False)
    assert not list((tmp_path / "again").iterdir())


def test_what_is_kept_in_files_beside_is_drawn_and_not_listed(tmp_path):
    class Dense(Bright):
        def one(self, batch, i):
            found = super().one(batch, i)
            found.instances.fields = {"beside": Beside(len(found.instances))}
            return found

    source, toy = str(film(tmp_path / "a.mp4", frames=3)), Predictor(Dense(), RECIPE, INFO)
    assert predict_videos(toy, [source], tmp_path / "o", How(0.1), save=["overlay"], progress=False).frames == 3
    with pytest.raises(UsageError, match="no place for beside"):
        predict_videos(toy, [source], tmp_path / "p", How(0.1), save=["csv"], progress=False)


def seen(boxes, labels=None):
    return Instances(torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(labels or [0] * len(boxes)).long())


def test_numbers_follow_objects_that_cross_vanish_and_come_back():
    links = Links()
    assert links.add(seen([[0, 0, 10, 10], [50, 0, 60, 10]])) == [1, 2]
    assert links.add(seen([[49, 0, 59, 10], [2, 0, 12, 10]])) == [2, 1], "in another order"
    assert links.add(seen([[4, 0, 14, 10]], [1])) == [3], "of another class"
    assert links.add(seen([])) == []
    assert links.add(seen([[48, 0, 58, 10], [4, 0, 14, 10]])) == [2, 1], "after two frames without them"
    for _ in range(GONE + 1):
        links.add(seen([]))
    assert links.add(seen([[48, 0, 58, 10]])) == [4], "long gone"
