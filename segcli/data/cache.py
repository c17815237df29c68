"""Keep decoded images between epochs, in memory and, where the recipe asks for it, on disk: a 500 x 400 PNG costs 5 ms
to decode, more than all augmentation; a photograph of 12 million pixels costs a hundred."""

import dataclasses
import hashlib
import itertools
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch

from segcli.core.downloads import cache_dir
from segcli.core.errors import SegcliError
from segcli.core.files import write_atomic
from segcli.data.dataset import Dataset, decoded
from segcli.data.geometry import Geometry, resize, transform
from segcli.types import Field, Instances, Sample, encode_masks

LIMIT = 2**30  # bytes of memory
HEADER = np.dtype([("name", "<i8"), ("bytes", "<i8"), ("changed", "<i8"), ("height", "<i8"), ("width", "<i8")])


class SampleCache:
    """Samples of a dataset by position, masks as RLE, up to `limit` bytes in this process.

    What comes first stays: an epoch visits every image once in a new order, so evicting would only lose hits.
    """

    def __init__(self, dataset: "Dataset | ImageCache", limit: int = LIMIT):
        self.dataset, self.left = dataset, limit
        self._samples: dict[int, Sample] = {}

    def read(self, i: int) -> Sample:
        """What `dataset.read(i)` gives; the image must not be written to."""
        sample = self._samples.get(i)
        if sample is None:
            sample = self.dataset.encoded(i)
            if (size := _bytes(sample)) <= self.left:
                self.left -= size
                self._samples[i] = sample
        return dataclasses.replace(sample, target=decoded(sample.target))


def _bytes(sample: Sample) -> int:
    target = sample.target
    masks = target.instances.masks or []
    maps = target.semantic.nbytes if target.semantic is not None else 0
    maps += target.panoptic.ids.nbytes if target.panoptic is not None else 0
    maps += sum(_held(field) for field in target.instances.fields.values())
    return sample.image.nbytes + maps + sum(len(m["counts"]) + 300 for m in masks if isinstance(m, dict)) + 2000


def _held(value: object) -> int:
    """Bytes of the tensors that a field holds, however they are nested in it."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.nbytes
    if isinstance(value, (list, tuple)):
        return sum(map(_held, value))
    return sum(map(_held, vars(value).values())) if isinstance(value, Field) else 0


class ImageCache:
    """A dataset whose decoded images lie on disk, shrunk so that no side exceeds `longest` (None: in full size).

    Which images are stored is fixed beforehand: from the first one on, as many as fit into `gigabytes`. So the bound
    holds whatever the number of processes, and none has to ask another. A file is written under a temporary name and
    renamed, and holds for one state of its image (name, bytes, time of change); anything else is decoded anew.
    """

    def __init__(
        self, dataset: Dataset, gigabytes: float, longest: int | None = None, folder: str | Path | None = None
    ):
        self.dataset, self.image_ids = dataset, dataset.image_ids
        scales = [1.0 if longest is None else min(1.0, longest / max(size)) for size in dataset.sizes]
        self.sizes = [
            (max(1, round(h * s)), max(1, round(w * s))) for (h, w), s in zip(dataset.sizes, scales, strict=True)
        ]
        ends = itertools.accumulate(h * w * 3 + HEADER.itemsize for h, w in self.sizes)
        self.stored = sum(end <= gigabytes * 1e9 for end in ends)
        given = dataset.info.value_range
        read_by = f"{dataset.root.resolve()}|{longest}" + (f"|{given}" if given else "")
        own = hashlib.sha256(read_by.encode()).hexdigest()[:12]
        self.folder = Path(folder or cache_dir() / "images") / f"{Path(dataset.info.name).name}-{own}"
        self.lost: set[int] = set()

    def __len__(self) -> int:
        return len(self.dataset)

    def encoded(self, i: int) -> Sample:
        """What `dataset.encoded(i)` gives, image and labels shrunk. An object that then covers no pixel is left out,
        with one warning."""
        target, size = self.dataset.encoded_target(i), self.sizes[i]
        sample = Sample(self._image(i), target, self.dataset.file_names[i], self.dataset.sizes[i])
        if size == target.size:
            return sample
        scene = transform(dataclasses.replace(sample, target=decoded(target)), Geometry(0, False, False, size, size))
        kept = np.flatnonzero(scene.visible() > 0)
        if len(kept) < len(target.instances) and not self.lost:
            warnings.warn(
                f"{sample.file_name}: {len(target.instances) - len(kept)} objects are smaller than a pixel at "
                f"data.cache.longest and are left out, as are all other such ones",
                stacklevel=2,
            )
            self.lost.add(target.image_id)
        small = scene.sample(sample, kept)
        if scene.masks is not None:
            masks = encode_masks(scene.masks[kept])
            instances: Instances = dataclasses.replace(small.target.instances, masks=masks)
            small.target = dataclasses.replace(small.target, instances=instances)
        return small

    def _image(self, i: int) -> np.ndarray:
        source, (h, w) = self.dataset.path(i), self.sizes[i]
        file = self.folder / f"{self.image_ids[i]}.rgb"
        if i >= self.stored or not source.is_file():
            return resize(self.dataset.image(i), (h, w))
        state = source.stat()
        key = np.array((zlib.crc32(str(source).encode()), state.st_size, state.st_mtime_ns, h, w), HEADER)
        try:
            data = np.fromfile(file, np.uint8)
        except OSError:  # not there yet; where the folder can't be used at all, writing below says so
            data = np.empty(0, np.uint8)
        if len(data) == HEADER.itemsize + h * w * 3 and data[: HEADER.itemsize].tobytes() == key.tobytes():
            return data[HEADER.itemsize :].reshape(h, w, 3)
        image = resize(self.dataset.image(i), (h, w))
        try:
            write_atomic(file, lambda p: p.write_bytes(key.tobytes() + image.tobytes()), flush=False)
        except SegcliError as error:
            self.stored = 0
            warnings.warn(f"{error}: no image is cached from here on", stacklevel=2)
        return image
