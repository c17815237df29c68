"""Box and mask AP as COCO defines them, on original pixels, image by image (Lin et al., "Microsoft COCO", 2014).

hotcoco does the matching in Rust and keeps per image only which detection matched what, so memory holds the masks of a
few images alone.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import hotcoco
import numpy as np
import torch
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import SegcliError
from segcli.metrics.errors import ErrorTally
from segcli.metrics.interface import CocoEntry
from segcli.ops.bootstrap import ApTally, mean_of_known
from segcli.types import Instances, Prediction, Target

KINDS = ("bbox", "segm")
TOGETHER = 32  # images that are matched at once: hotcoco spreads them over the cores
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # COCO's area ranges: any, < 32², < 96², larger (square pixels)
MOST = 2000  # classes whose confusion matrix is stored
AT_ONCE = 2**28  # APs of resamples that are held together (1 GB)
_AP50, _AP75 = 0, 5  # positions among the IoU thresholds .50, .55, ... .95
SUMMARY: dict[str, tuple[int, slice | int]] = {  # COCO's numbers: area range, IoU thresholds
    "AP": (_ALL, slice(None)),
    "AP50": (_ALL, _AP50),
    "AP75": (_ALL, _AP75),
    "APs": (_SMALL, slice(None)),
    "APm": (_MEDIUM, slice(None)),
    "APl": (_LARGE, slice(None)),
}

Entries = tuple[list[CocoEntry], dict[str, Any]]  # an image's labels and, by kind, detections


def build(
    *, info: DatasetInfo, kinds: Sequence[str] = KINDS, max_detections: int = 100, resample: bool = False
) -> "InstanceScores":
    return InstanceScores(info, kinds, max_detections, resample)


class InstanceScores:
    """COCO AP of boxes (`bbox`) and masks (`segm`), averaged over IoU .50:.95 and over classes; 0..1.

    Args:
        info: the dataset's classes, of which the things are scored.
        kinds: which of "bbox" and "segm" to score.
        max_detections: the best-scored detections of a class on an image that count (COCO: 100). Every number here
            uses this limit; COCO's area ranges stay as they are.
        resample: also keep what `replicates` needs of each image.
    A number that the labels say nothing about (no object in that size range, or of that class) has no key.
    """

    summary = SUMMARY

    def __init__(
        self, info: DatasetInfo, kinds: Sequence[str] = KINDS, max_detections: int = 100, resample: bool = False
    ):
        self.names = info.names[: info.num_things]
        self.kinds = tuple(kinds)
        self.max_detections = max_detections
        self.categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.names)]
        self.streams, self.tallies = {}, {}
        self.errors: dict[str, ErrorTally] = {}
        self.waiting: list[tuple[CocoEntry, list[CocoEntry], dict[str, Any]]] = []
        for kind in self.kinds:
            params = self._params(kind)
            self.streams[kind] = hotcoco.StreamingEval(self.categories, kind, params=params)
            if resample:
                areas = list(zip(params.area_rng_lbl, params.area_rng, strict=True))
                self.tallies[kind] = ApTally(len(self.names), areas, len(params.iou_thrs))
                if kind in KINDS:
                    self.errors[kind] = ErrorTally(self.categories, kind, self._params(kind))

    def update(
        self,
        predictions: Sequence[Prediction],
        targets: Sequence[Target],
        annotations: Sequence[Sequence[Annotation]] | None = None,
    ) -> None:
        """Match one batch of images; predictions and targets are in the same order, on original pixels.

        `annotations` are the targets' COCO dicts. Their `area` decides the size range, as in COCO's own evaluation,
        and their `bbox` is exact where the target's is float32. Without it the area is the mask's where the target
        has masks, whatever is scored, or else the box's. Raises SegcliError for a score that is not a number or a mask
        of another size than the image.
        """
        for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            assert prediction.image_id == target.image_id, "predictions and targets are of different images"
            found = prediction.instances if prediction.instances is not None else Instances.empty()
            check(found, prediction, target.size)
            image = {"id": target.image_id, "height": target.size[0], "width": target.size[1]}
            self.waiting.append((image, *self.entries(found, target, None if annotations is None else annotations[i])))
            if len(self.waiting) >= TOGETHER:
                self._match()

    def entries(self, found: Instances, target: Target, annotations: Sequence[Annotation] | None) -> Entries:
        """One image's labels and, by kind, its detections, as hotcoco takes them."""
        labels = truth(target, "segm" in self.kinds, annotations)
        return labels, {kind: _detections(found, kind, target.image_id) for kind in self.kinds}

    def _match(self) -> None:
        """Match the images that wait for it."""
        if not self.waiting:
            return
        images, truths, found = zip(*self.waiting, strict=True)
        self.waiting = []
        labelled = [{**entry, "id": i} for i, entry in enumerate(chain(*truths), start=1)]
        for kind, stream in self.streams.items():
            parts = [detections[kind] for detections in found]
            together: Any = np.concatenate(parts) if kind == "bbox" else [*chain(*parts)]
            stream.update(list(images), labelled, together)
            if kind in self.tallies:  # the stream keeps its matching to itself
                labels = hotcoco.COCO({"images": list(images), "annotations": labelled, "categories": self.categories})
                apart = hotcoco.COCOeval(labels, labels.load_res(together), kind)
                apart.params = self._params(kind)
                apart.params.img_ids = [image["id"] for image in images]
                apart.evaluate()
                of_image: dict[int, list[CocoEntry]] = {image["id"]: [] for image in images}
                for one in apart.eval_imgs:
                    if one is not None:
                        of_image[one["image_id"]].append(one)
                for image_id, matching in of_image.items():
                    self.tallies[kind].add(image_id, matching)
                if kind in self.errors:
                    self.errors[kind].add(list(images), labelled, together)

    def merge(self, other: "InstanceScores") -> None:
        """Take in the images that `other` has seen (another process's share)."""
        self._match()
        other._match()
        for kind in self.kinds:
            self.streams[kind] = hotcoco.StreamingEval.merge([self.streams[kind], other.streams[kind]])
        for kind, tally in self.tallies.items():
            tally.merge(other.tallies[kind])
        for kind, errors in self.errors.items():
            errors.merge(other.errors[kind])

    def compute(self) -> dict[str, float]:
        """{"bbox_AP", "bbox_AP50", "bbox_AP75", "bbox_APs", "bbox_APm", "bbox_APl", "segm_AP", ...}."""
        out: dict[str, float] = {}
        for kind, precision in self._precision():
            for key, (area, threshold) in self.summary.items():
                _put_mean(out, f"{kind}_{key}", precision[threshold, ..., area])
        return out

    def replicates(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """`compute`'s scores in each resample of the images, [B]; NaN where a resample shows nothing to find.

        times [B,I]: how often each image is drawn (bootstrap.draw). {} unless built with resample=True.
        """
        self._match()
        out = {}
        for kind, tally in self.tallies.items():
            step = max(1, AT_ONCE // (len(self.names) * len(tally.areas) * tally.thresholds))
            means: dict[str, list[np.ndarray]] = {key: [] for key in self.summary}
            for first in range(0, len(times), step):
                precision = tally.average_precision(times[first : first + step])
                for key, (area, threshold) in self.summary.items():
                    means[key].append(mean_of_known(precision[:, :, area, threshold].reshape(len(precision), -1)))
            for key, parts in means.items():
                if not np.isnan(values := np.concatenate(parts)).all():
                    out[f"{kind}_{key}"] = values
        return out

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> {"bbox_AP", "bbox_AP50", "segm_AP", ...}; empty for a class that no image shows."""
        out: dict[str, dict[str, float]] = {name: {} for name in self.names}
        for kind, precision in self._precision():
            for label, name in enumerate(self.names):
                _put_mean(out[name], f"{kind}_AP", precision[..., label, _ALL])
                _put_mean(out[name], f"{kind}_AP50", precision[_AP50, ..., label, _ALL])
        return out

    def diagnostics(self) -> dict[str, Any]:
        """What lies behind the AP, as plain numbers for JSON: of the last kind (masks before boxes) and, under
        "kinds", of each; {} unless built with resample=True. Of detections scored LEAST or more (metrics/errors.py):

        confusion: objects by labelled (row) and predicted class (column) at IoU 0.5 and score >= 0.5, last = none; null
        above MOST classes, where it would be larger than all the rest.
        tide: AP50 lost to each type of error (Bolya et al., "TIDE", 2020): class, localisation, both, duplicate,
        background, missed. calibration: how far scores are from the share that is right (expected and largest error).
        precision (of all detections): per class at 101 recalls from 0 to 1, IoU 0.5; null where a class has no object.
        """
        kinds = {}
        for kind, precision in self._precision():
            if kind not in self.errors:
                continue
            curves = {name: precision[_AP50, :, i, _ALL].round(4).tolist() for i, name in enumerate(self.names)}
            kinds[kind] = {
                **self.errors[kind].diagnostics(confusion=len(self.names) <= MOST),
                "precision": {name: values if max(values) > -1 else None for name, values in curves.items()},
            }
        if not kinds:
            return {}
        last = self.kinds[-1]
        return {"kind": last, "classes": [*self.names, "none"], **kinds[last], "kinds": kinds}

    def _params(self, kind: str) -> hotcoco.Params:
        params = hotcoco.Params(kind)
        params.max_dets = [self.max_detections]
        return params

    def _precision(self) -> Iterable[tuple[str, np.ndarray]]:
        """(kind, precision [10 IoU thresholds, 101 recalls, C, 4 area ranges]); -1 where there is nothing to find."""
        self._match()
        for kind in self.kinds:
            # finalize() uses its evaluator up, so it gets a copy: more updates may follow
            result = hotcoco.StreamingEval.merge([self.streams[kind]]).finalize()
            result.accumulate()
            assert result.eval is not None
            yield kind, result.eval["precision"][..., 0]


def _put_mean(out: dict[str, float], key: str, values: np.ndarray) -> None:
    known = values[values > -1]
    if known.size:
        out[key] = float(known.mean())


def check(found: Instances, prediction: Prediction, size: tuple[int, int]) -> None:
    """Raise SegcliError naming the image where a score is no number, or a mask is not of the image's size (h, w)."""
    if len(found) == 0:
        return
    if found.scores is None or not torch.isfinite(found.scores).all():
        raise SegcliError(f"image {prediction.image_id}: a prediction has no score, or one that is not a number")
    for rle in found.masks if isinstance(found.masks, list) else []:
        if tuple(rle["size"]) != tuple(size):
            raise SegcliError(
                f"image {prediction.image_id}: a predicted mask is of size {list(rle['size'])}, the image {list(size)}"
            )


def truth(target: Target, with_masks: bool, annotations: Sequence[Annotation] | None) -> list[CocoEntry]:
    """The labels of one image as COCO annotations; category id = label + 1."""
    instances = target.instances
    boxes = _xywh(instances)
    assert annotations is None or len(annotations) == len(instances), "annotations and target disagree"
    unsized = annotations is None or any(raw.get("area") is None for raw in annotations)
    masks = instances.rles() if instances.masks is not None and (with_masks or unsized) else None
    out = []
    for i, label in enumerate(instances.labels.tolist()):
        raw = Annotation() if annotations is None else annotations[i]
        area = raw.get("area")
        if area is None:
            area = float(coco_mask.area(masks[i])) if masks is not None else boxes[i, 2] * boxes[i, 3]
        entry = {
            "id": i + 1,
            "image_id": target.image_id,
            "category_id": label + 1,
            "bbox": raw.get("bbox") or boxes[i].tolist(),
            "area": area,
            "iscrowd": int(instances.crowd is not None and bool(instances.crowd[i])),
        }
        if with_masks:
            assert masks is not None, "labels without masks can't score masks"
            entry["segmentation"] = masks[i]
        out.append(entry)
    return out


def _detections(found: Instances, kind: str, image_id: int) -> Any:
    """Boxes as hotcoco's [N,7] array, masks as dicts: without a bbox, a result's area is its mask's."""
    if len(found) == 0:
        return np.zeros((0, 7))
    assert found.scores is not None
    scores = found.scores.double().cpu().numpy()
    labels = found.labels.cpu().numpy()
    if kind == "bbox":
        return np.column_stack([np.full(len(found), image_id), _xywh(found), scores, labels + 1])
    return [
        {"image_id": image_id, "category_id": int(label) + 1, "segmentation": rle, "score": float(score)}
        for rle, label, score in zip(found.rles(), labels, scores, strict=True)
    ]


def _xywh(instances: Instances) -> np.ndarray:
    boxes = instances.boxes.double().cpu().numpy().copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes
