"""Cut-outs: every object as a PNG of its box, transparent outside its mask."""

from pathlib import Path

import numpy as np

from segcli.core.dataset_info import DatasetInfo
from segcli.data.annotations import encode
from segcli.data.image import read_image
from segcli.data.png import encode_png
from segcli.sources.export_files import Exported


def export(image: Exported, names: dict[int, str], out: Path) -> None:
    """Write NAME/1.png, 2.png, … in the order of the tables: by score."""
    pixels = read_image(image.path) if image.annotations else None
    folder = out / Path(image.record["file_name"]).stem
    for number, annotation in enumerate(image.annotations, 1):
        assert pixels is not None
        if "segmentation" in annotation:
            x, y, mask = image.crop(encode(annotation["segmentation"], image.size))
        else:
            left, top, w, h = annotation["bbox"]
            x, y = max(0, round(left)), max(0, round(top))
            mask = np.ones((max(1, round(top + h) - y), max(1, round(left + w) - x)), bool)
        part = pixels[y : y + mask.shape[0], x : x + mask.shape[1]]
        alpha = mask[: part.shape[0], : part.shape[1]].astype(np.uint8) * 255
        if part.size:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.png").write_bytes(encode_png(np.dstack([part, alpha])))


def finish(root: Path, out: Path, info: DatasetInfo, notes: list[str]) -> None:
    """Everything stands already."""
