"""Draws the pictures of docs/mask_rcnn.md, detr.md, maskformer.md and per_pixel.md again, on the embedded shapes.

    python tests/benchmarks/explained_pictures.py [--data data/shapes] [--image FILE] [--runs runs] [--out docs/images]

reads runs of the quick-start recipes (`segcli train quickstart/mask_rcnn`, detr, maskformer, per_pixel) below --runs,
NAME or quickstart-NAME, and writes explain_VIEW.jpg. A run that is not there is named and left out. The
views of a whole split are those of the run's own data, which is looked for from the working folder.
"""

import argparse
import tempfile
from pathlib import Path

import cv2

from segcli.explain.explain import explain

PICTURES = {  # the views of each run that a page shows
    "mask_rcnn": ("proposals", "roi_align", "mask_channels", "paste"),
    "detr": ("self_attention", "sampling_points", "layers", "matching", "query_places"),
    "maskformer": ("query_masks", "dot_product", "readings"),
    "per_pixel": ("class_maps", "entropy"),
}
OF_SPLIT = ("query_places",)
WIDTH = 1100  # pixels


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data/shapes"))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "images")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    image = given.image or sorted((given.data / "images" / "val").iterdir())[0]
    for name, views in PICTURES.items():
        run = next((p for p in (given.runs / name, given.runs / f"quickstart-{name}") if p.is_dir()), None)
        if run is None:
            print(f"{given.runs}: no run called {name} or quickstart-{name}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            explain(run, image, what=[view for view in views if view not in OF_SPLIT], out=folder, progress=False)
            if own := [view for view in views if view in OF_SPLIT]:
                explain(run, split="val", what=own, out=folder, progress=False)
            for view in views:
                stem = "val" if view in OF_SPLIT else image.stem
                sheet = cv2.imread(str(Path(folder) / f"explain-{stem}-{view}.png"))
                height = round(sheet.shape[0] * WIDTH / sheet.shape[1])
                small = cv2.resize(sheet, (WIDTH, height), interpolation=cv2.INTER_AREA)
                file = given.out / f"explain_{view}.jpg"
                cv2.imwrite(str(file), small, [cv2.IMWRITE_JPEG_QUALITY, 80])
                print(file, f"{file.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
