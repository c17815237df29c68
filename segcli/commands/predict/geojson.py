"""Predictions as GeoJSON, one file an image, as QuPath and GIS programs open them.

Coordinates are pixels from the image's top left corner, as QuPath has them (docs/advanced/exporting_annotations of
QuPath's documentation); `objectType`, `classification` and `measurements` are its properties. Holes are rings of their
own (RFC 7946, section 3.1.6).
"""

import json
from pathlib import Path

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.data.annotations import encode
from segcli.sources.export_files import Exported
from segcli.sources.shapes import rectangle, simplified


def export(image: Exported, names: dict[int, str], out: Path) -> None:
    """Write one image's file."""
    features = [
        {
            "type": "Feature",
            "geometry": _geometry(image, annotation),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": names[annotation["category_id"]]},
                "measurements": {key: annotation[key] for key in ("score", "area") if key in annotation},
            },
        }
        for annotation in image.annotations
    ]
    file = image.claim(out / f"{Path(image.record['file_name']).stem}.geojson")
    file.write_text(
        json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False), encoding="utf-8"
    )


def finish(root: Path, out: Path, info: DatasetInfo, notes: list[str]) -> None:
    """Everything stands already."""


def _geometry(image: Exported, annotation: Annotation) -> dict[str, object]:
    if "segmentation" not in annotation:
        x, y, w, h = annotation["bbox"]
        return {"type": "Polygon", "coordinates": [_ring(np.reshape(rectangle(x, y, x + w, y + h), (-1, 2)))]}
    x, y, mask = image.crop(encode(annotation["segmentation"], image.size))
    parts = [[_ring(loop + np.array([x, y])) for loop in part] for part in simplified(mask)]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _ring(points: np.ndarray) -> list[list[float]]:
    """A closed path as GeoJSON has it: the first point again at the end."""
    return [[float(x), float(y)] for x, y in [*points.tolist(), points[0].tolist()]]
