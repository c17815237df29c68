"""docs/python.md and its notebook do what they say, from the first block to the last, on a tiny training."""

import json
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"


def test_every_block_runs(tmp_path, monkeypatch, capsys, short):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (96, 64), (90, 120, 60)).save("photo.jpg")
    cells = json.loads((DOCS / "python.ipynb").read_text(encoding="utf-8"))["cells"]
    blocks = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "5.0 rcnn_lite" in printed
    assert "<Prediction: " in printed
    assert str(names["run"]).endswith("runs/mine-mask_rcnn")
    assert names["picture"].size == (480, 320)
    assert names["table"].columns[0] == "label"
    assert names["scores"].keys() >= {"segm_AP", "bbox_AP"}
