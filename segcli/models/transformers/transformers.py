"""Any supported model of the library `transformers` under this project's protocol: its network, its loss and its
post-processing, on our data, augmentation, schedule and scores.

`build` makes the architecture of a checkpoint's configuration with random weights; `checkpoint.initialise` then loads
those of the checkpoint. Legend: B images, Q queries, C classes.
"""

import contextlib
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcli.models.interface import Model
from segcli.models.layers.targets import box_targets, segment_targets
from segcli.models.layers.task_check import check_task
from segcli.models.transformers import outputs
from segcli.models.transformers.architectures import (
    BACKBONES,
    BOXES,
    MASKED_BOXES,
    PIXELS,
    SEGMENTS,
    TASKS_OF,
    Files,
    build_network,
    build_processor,
    build_reader,
    check,
    read_files,
)
from segcli.models.transformers.attention import recorded
from segcli.models.transformers.meta_truth import MetaTruth
from segcli.models.transformers.processor import preprocess_of
from segcli.models.transformers.tuning import TUNING
from segcli.ops.boxes import to_xyxy
from segcli.ops.segments import label_maps
from segcli.types import Batch, Prediction, ignore_label


def build(
    *,
    task: str,
    num_classes: int,
    num_things: int,
    checkpoint: str,
    config: dict[str, object] | None = None,
    processor: dict[str, object] | None = None,
) -> "TransformersModel":
    """checkpoint: a folder or a name on the hub. config, processor: the contents of its config.json and
    preprocessor_config.json (null: read there); a run's recipe holds both, so that it opens without the checkpoint.
    """
    files = Files(config, processor) if config and processor else read_files(checkpoint)
    files = Files(config or files.config, processor or files.processor)
    kind = check(files, checkpoint, task)
    labels = check_task("transformers", TASKS_OF[kind], task, num_classes=num_classes, num_things=num_things)
    return TransformersModel(files, checkpoint, task=task, labels=labels, num_things=num_things)


def settled(settings: dict[str, object]) -> dict[str, object]:
    """A recipe's `model` section with the checkpoint's configuration, and the whole path of its folder, in it."""
    if not settings.get("checkpoint") or (settings.get("config") and settings.get("processor")):
        return settings
    files = read_files(str(settings["checkpoint"]))
    named = ("id2label", "label2id")  # the dataset's classes replace them
    config = {key: value for key, value in files.config.items() if key not in named}
    folder = Path(str(settings["checkpoint"])).expanduser()
    where = {"checkpoint": str(folder.absolute())} if folder.is_dir() else {}
    return {"config": config, "processor": files.processor, **{k: v for k, v in settings.items() if v}, **where}


class TransformersModel(Model):
    """net: the library's model, whose parameter names follow. begins_with: its checkpoint; labels: classes learned."""

    def __init__(self, files: Files, checkpoint: str, *, task: str, labels: int, num_things: int):
        super().__init__()
        self.task, self.labels, self.num_things = task, labels, num_things
        self.begins_with, self.architecture = checkpoint, files.architecture
        self.kind = check(files, checkpoint, task)
        self.net: Any = build_network(files, labels, checkpoint)
        self.processor, self.reader = build_processor(files, checkpoint), build_reader(files.architecture)
        config = self.net.config
        self.ignore = ignore_label(labels)
        if self.kind == PIXELS:
            config.semantic_loss_ignore_index = config.loss_ignore_index = self.ignore
        fixed = config.image_size if "Eomt" in files.architecture else None
        self.preprocess = preprocess_of(self.processor, checkpoint, fixed)
        self.queries = None if self.kind == PIXELS else int(self._queries())
        self.takes_padding = "pixel_mask" in inspect.signature(self.net.forward).parameters
        self.fine_tuning = TUNING.get(files.architecture)
        self._class_layers: tuple[str, ...] | None = None
        self._files = files

    def _queries(self) -> int:
        config = self.net.config
        for name in ("num_queries", "num_detection_tokens"):
            if isinstance(found := getattr(config, name, None), int):
                return found
        return int(config.decoder_config.num_queries)  # MaskFormer's

    @property
    def backbone_parts(self) -> tuple[str, ...]:
        if self.first_rates:
            return super().backbone_parts
        return tuple(f"net.{part}." for part in BACKBONES[self.architecture])

    @property
    def class_layers(self) -> tuple[str, ...]:
        """Found by building the architecture for another number of classes, without memory."""
        if self._class_layers is None:
            with torch.device("meta"):
                other = build_network(self._files, self.labels + 1, self.begins_with).state_dict()
            own = self.net.state_dict()
            self._class_layers = tuple(f"net.{k}" for k, v in own.items() if v.shape != other[k].shape)
        return self._class_layers

    def run(self, batch: Batch, **labels: object) -> Any:
        """The library's output object."""
        if self.takes_padding:
            labels["pixel_mask"] = (~batch.padding).long()
        return self.net(pixel_values=batch.images, **labels)

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """{"total": the library's own weighted loss}, divided by this batch's own counts."""
        loss = self._loss(batch)
        # what a batch does not use (queries of denoising without an object) has a gradient of zero
        touched = torch.stack([p.flatten()[0] for p in self.parameters() if p.requires_grad]).nan_to_num().sum()
        return {"total": loss + 0.0 * touched}

    def _loss(self, batch: Batch) -> Tensor:
        if self.kind == PIXELS:
            return self._pixel_loss(batch)
        given = {"classes": self.labels, "num_things": self.num_things}
        if self.kind == SEGMENTS:
            targets = segment_targets(batch, self.task, self.num_things)
            labels, masks = zip(*targets.by_image(targets.labels, targets.masks.float()), strict=True)
            loss: Tensor = self.run(batch, class_labels=list(labels), mask_labels=list(masks)).loss
            return loss.sum()  # of one number
        boxed = box_targets(batch, self.task, of_canvas=self.kind == MASKED_BOXES, **given)
        annotated = []
        for label, box, *mask in boxed.by_image(
            boxed.labels, boxed.boxes, *([boxed.masks] if self.kind == MASKED_BOXES else [])
        ):
            one = {"class_labels": label, "boxes": box}
            annotated.append({**one, "masks": mask[0].float()} if mask else one)
        loss = self.run(batch, labels=annotated).loss
        return loss.sum()  # of one number

    def _pixel_loss(self, batch: Batch) -> Tensor:
        assert batch.targets
        maps = label_maps(batch.targets, (batch.images.shape[2], batch.images.shape[3]))
        maps[maps == batch.targets[0].ignore] = self.ignore
        if not bool((maps != self.ignore).any()):  # a mean over no pixel is not a number
            logits: Tensor = self.run(batch).logits
            return 0.0 * logits.sum()
        loss: Tensor = self.run(batch, labels=maps).loss
        return loss

    def predict(self, batch: Batch) -> list[Prediction]:
        """Predictions on the original images' pixels; at most `max_detections` objects."""
        return self._read(self.run(batch), batch)

    def _read(self, out: Any, batch: Batch) -> list[Prediction]:
        if self.kind == BOXES:
            return outputs.boxes(out, self.reader, batch, self.max_detections)
        if self.kind == MASKED_BOXES:
            return outputs.masked_boxes(out, batch, self.max_detections)
        if self.kind == SEGMENTS:
            rule = outputs.MASK_RULES[self.architecture]
            return outputs.segments(out, batch, self.task, self.num_things, self.max_detections, rule)
        return outputs.pixels(out, batch)

    def inspect(self, batch: Batch) -> dict[str, object]:
        """Of detectors class_probabilities [B,Q,C], or [B,Q,C+1] with "no object" last (no_object), boxes [B,Q,4] xyxy
        on the canvas, selected (whether queries are chosen in the image, by the encoder's outputs) and, of those with
        masks, mask_logits [B,Q,h,w]; of mask classification class_probabilities [B,Q,C+1], no_object and mask_logits;
        of pixel classifiers logits and probabilities [B,C,h,w]. Of all what `attention.Recorded.views` has,
        and predictions, those of `predict`."""
        with recorded(self.net) as seen:
            out = self.run(batch)
        canvas = (batch.images.shape[2], batch.images.shape[3])
        views = seen.views(canvas, self.queries, queries_first=self.kind == SEGMENTS)
        views["predictions"] = self._read(out, batch)
        if self.kind == PIXELS:
            return views | {"logits": out.logits, "probabilities": out.logits.softmax(1)}
        if self.kind == SEGMENTS:
            return views | {
                "class_probabilities": out.class_queries_logits.softmax(-1),
                "no_object": True,
                "mask_logits": out.masks_queries_logits,
            }
        content = out.pred_boxes.new_tensor([[w, h, w, h] for h, w in batch.sizes])
        softmax = out.logits.shape[-1] == self.labels + 1
        if self.kind == MASKED_BOXES:
            views["mask_logits"] = out.pred_masks
        return views | {
            "class_probabilities": out.logits.softmax(-1) if softmax else out.logits.sigmoid(),
            "no_object": softmax,
            "selected": any(name.endswith(".enc_output") for name, _ in self.net.named_modules()),
            "boxes": to_xyxy(out.pred_boxes) * content[:, None],
        }

    def network(self, images_BCHW: Tensor) -> object:
        """The library's output for images that fill the canvas."""
        with MetaTruth() if images_BCHW.is_meta else contextlib.nullcontext():
            return self.net(pixel_values=images_BCHW)

    def trunk(self) -> None:
        return None
