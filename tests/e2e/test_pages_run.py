"""Every shell line of the first pages does what it says, from the first to the last, on eight small photographs."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DESKS = [  # pages that one reader reads one after the other, in one folder
    ["README", "docs/compare", "docs/predict"],
    ["docs/own_data", "docs/correct_and_merge"],
    *([page.relative_to(ROOT).with_suffix("").as_posix()] for page in sorted((ROOT / "docs").glob("write_a_*.md"))),
]
NOT_RUN = {  # how a line begins that is not run here, and why
    "pip install .": "test_package.py builds and installs the package",
    "pip install '.[test]'": "needs a network",
    "pip install 'segcli[video]'": "needs a network",
    "pytest": "is what runs this",
    "segcli predict runs/mine-mask_rcnn crossing.mp4": "needs the extra `video`, as tests of commands do",
    "segcli predict runs/mine-mask_rcnn 0": "needs a camera",
    "labelme": "opens a window, and is no part of segcli",
}
SMALLER = {
    " --minutes 5": "",
    "recipes/quickstart/*.yaml": "recipes/quickstart/fcn.yaml",
    "make_arrows.py arrows": "make_arrows.py arrows 8 3",
}


def photos(folder: Path, names: list[str], seed: int) -> None:
    """Photographs of 64 x 48 pixels with a LabelMe file each: a leaf and a stone, of their own colours."""
    rng = np.random.default_rng(seed)
    for name in names:
        pixels = rng.integers(90, 140, (48, 64, 3)).astype(np.uint8)
        shapes = []
        for label, colour, left in (("leaf", (40, 200, 40), 4), ("stone", (200, 60, 60), 34)):
            x, y = left + int(rng.integers(4)), int(rng.integers(4, 16))
            pixels[y : y + 20, x : x + 20] = colour
            corners = [[x, y], [x + 20, y], [x + 20, y + 20], [x, y + 20]]
            shapes.append({"label": label, "points": corners, "shape_type": "polygon"})
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
        content = {"shapes": shapes, "imagePath": Path(name).name, "imageHeight": 48, "imageWidth": 64}
        (folder / name).with_suffix(".json").write_text(json.dumps(content))


def lines(page: Path) -> list[str]:
    """The commands of a page's shell blocks, comments cut, one a `&&`."""
    out = []
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            out += [part.strip() for part in re.split(r"\s#\s", line)[0].split("&&")]
    return [line for line in out if line]


@pytest.fixture
def desk(tmp_path, short):
    """What a reader has: photographs, new ones, and, where the page begins later, the runs that it speaks of."""
    photos(tmp_path / "photos", [f"p{i}.jpg" for i in range(7)] + ["more/p7.jpg"], 0)
    photos(tmp_path / "new_photos", ["n1.jpg", "n2.jpg"], 1)
    for file in (tmp_path / "new_photos").glob("*.json"):
        file.unlink()
    shutil.copy(tmp_path / "new_photos/n1.jpg", tmp_path / "one_more.png")
    shutil.copy(tmp_path / "new_photos/n2.jpg", tmp_path / "a.jpg")
    Image.new("RGB", (700, 560), (90, 120, 60)).save(tmp_path / "slide.tif")
    (tmp_path / "boxes.csv").write_text("file,x1,y1,x2,y2,class\na.jpg,10,20,60,40,leaf\nn1.jpg,1,2,30,40,leaf\n")
    shutil.copy(tmp_path / "new_photos/n1.jpg", tmp_path / "n1.jpg")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copytree(ROOT / "docs/examples", tmp_path / "docs/examples")
    return tmp_path


def begin(segcli, page: Path) -> None:
    """Make the runs that a page takes for granted, where the pages before it have not."""
    text = " ".join(lines(page))
    for run in sorted({*re.findall(r"\bruns/mine-[\w]+", text)} - {*re.findall(r"--out (runs/[\w-]+)", text)}):
        if Path("data/mine").is_dir() and not Path(run).is_dir():
            assert segcli("train", run.split("-")[-1], "--data", "data/mine", "--out", run, "-q").code == 0


@pytest.mark.parametrize("names", DESKS, ids=" ".join)
def test_every_line_of_the_pages_runs(segcli, desk, register, names):
    for page in [ROOT / f"{name}.md" for name in names]:
        begin(segcli, page)
        run_page(segcli, desk, register, page)


def run_page(segcli, desk, register, page: Path) -> None:
    ran = 0
    for line in lines(page):
        for long, small in SMALLER.items():
            line = line.replace(long, small)
        words = shlex.split(line)
        if line.startswith("pip install ./docs"):
            register(desk / words[-1])
        elif any(line.startswith(known) for known in NOT_RUN):
            continue
        elif words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], check=True)
        else:
            assert words[0] == "segcli", f"{page.name}: nothing here runs: {line}"
            result = segcli(*words[1:])
            assert result.code == 0, f"{page.name}: {line}: {result.err}"
            assert "Traceback" not in result.err
            ran += 1
    assert ran


def test_python_is_on_the_page_whose_blocks_a_test_runs_alone():
    pages = [ROOT / f"{name}.md" for names in DESKS for name in names]
    assert [page.name for page in pages if "```python" in page.read_text(encoding="utf-8")] == []
