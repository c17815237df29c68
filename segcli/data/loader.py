"""Batches for training and evaluation. What a step holds depends on (seed, step) alone, never on the worker processes.

Epoch e visits the images in an order keyed by (seed, e), and a sample draws its augmentation from (seed, e, image id).
So a run resumed at any step, with any number of workers, sees what it would have seen.
"""

import dataclasses
import functools
import itertools
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from segcli.core import distributed
from segcli.core.errors import SegcliError
from segcli.core.parent import end_with
from segcli.data.cache import LIMIT, ImageCache, SampleCache
from segcli.data.dataset import Dataset
from segcli.ops.preprocess import Preprocess
from segcli.types import Batch, Instances, Sample, Target

Augment = Callable[[Sample, np.random.Generator, Callable[[], Sample]], Sample]
K = TypeVar("K")  # what a batch is made of
Key = tuple[int, int, int]  # epoch, position in the dataset, how often the image is in the epoch already
WORKERS, FEW_WORKERS = 4, 16  # loader processes a CPU at most; so few are no harm anywhere
PREFETCH = 2  # batches a worker keeps ready


def steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Batches in an epoch; the last partial one is left out. A dataset smaller than a batch is one step."""
    return max(1, len(dataset) // batch_size)


def train_loader(
    dataset: Dataset,
    preprocess: Preprocess,
    augment: Augment | None,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    workers: int = 0,
    disk: ImageCache | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[Batch]:
    """Endless batches with targets and seeds, from step `start_step` (0-based) on.

    With several ranks, batch_size is each one's; together they see what one process would with a batch of all of them.
    A dataset smaller than a batch is repeated within it, each copy with its own augmentation. Decoded images are kept
    in memory, 1 GB in all; `disk` keeps more of them. Where `augment` is final (it has a short_side), the model's own
    resize rule is left out. Raises DataError naming the file, in this process, where an image can't be read.
    """
    if getattr(augment, "final", False):
        preprocess = dataclasses.replace(preprocess, keep_size=True)
    load = _TrainBatch(SampleCache(disk or dataset, LIMIT // max(1, workers)), preprocess, augment, seed)
    own = slice(rank * batch_size, (rank + 1) * batch_size)
    steps = (keys[own] for keys in _steps(len(dataset), batch_size * ranks, seed, start_step))
    if workers == 0:
        return (_checked(load(keys)) for keys in steps)
    return _parallel(load, steps, workers)


def eval_loader(dataset: Dataset, preprocess: Preprocess, *, batch_size: int = 1, workers: int = 0) -> Iterator[Batch]:
    """Every image once, in order, without targets. Nothing is kept in memory. Raises DataError naming the file."""
    load = _EvalBatch(dataset, preprocess)
    steps = (list(range(i, min(i + batch_size, len(dataset)))) for i in range(0, len(dataset), batch_size))
    if workers == 0:
        return (_checked(load(positions)) for positions in steps)
    return _parallel(load, steps, workers)


class _TrainBatch:
    """Keys -> Batch. A data error is returned, not raised: torch would bury it in a worker's traceback."""

    def __init__(self, samples: SampleCache, preprocess: Preprocess, augment: Augment | None, seed: int):
        self.samples, self.preprocess, self.augment, self.seed = samples, preprocess, augment, seed

    def __call__(self, keys: list[Key]) -> Batch | SegcliError:
        try:
            samples = [self._sample(*key) for key in keys]
        except SegcliError as error:
            return error
        targets = [self.preprocess.target(s.target) for s in samples]
        seeds = [int(self._entropy(*key).generate_state(2, np.uint64)[1] >> np.uint64(1)) for key in keys]
        return _batch(self.preprocess, samples, targets, seeds)

    def _sample(self, epoch: int, position: int, repeat: int) -> Sample:
        sample = self.samples.read(position)
        if self.augment is None:
            return sample
        rng = np.random.default_rng(self._entropy(epoch, position, repeat))
        return self.augment(sample, rng, lambda: self.samples.read(int(rng.integers(len(self.samples.dataset)))))

    def _entropy(self, epoch: int, position: int, repeat: int) -> np.random.SeedSequence:
        return np.random.SeedSequence([self.seed, epoch, self.samples.dataset.image_ids[position], repeat])


class _EvalBatch:
    def __init__(self, dataset: Dataset, preprocess: Preprocess):
        self.dataset, self.preprocess = dataset, preprocess

    def __call__(self, positions: list[int]) -> Batch | SegcliError:
        try:
            images = [self.dataset.image(i) for i in positions]
        except SegcliError as error:
            return error
        names, ids, sizes = self.dataset.file_names, self.dataset.image_ids, self.dataset.sizes
        samples = [
            Sample(image, Target(ids[i], sizes[i], Instances.empty()), names[i], sizes[i])
            for i, image in zip(positions, images, strict=True)
        ]
        return _batch(self.preprocess, samples, None, [])


def _batch(preprocess: Preprocess, samples: list[Sample], targets: list[Target] | None, seeds: list[int]) -> Batch:
    images = [preprocess.image(s.image) for s in samples]
    padded, padding = preprocess.pad(images)
    return Batch(
        images=padded,
        padding=padding,
        sizes=[(i.shape[1], i.shape[2]) for i in images],
        original_sizes=[s.original_size for s in samples],
        image_ids=[s.target.image_id for s in samples],
        targets=targets,
        seeds=seeds,
    )


def _steps(count: int, batch_size: int, seed: int, start: int) -> Iterator[list[Key]]:
    """The keys of step `start`, `start` + 1, ..."""
    per_epoch = max(1, count // batch_size)
    for epoch in itertools.count(start // per_epoch):
        order = np.random.default_rng([seed, epoch]).permutation(count).tolist()
        keys = [(epoch, order[k % count], k // count) for k in range(per_epoch * batch_size)]
        for step in range(start % per_epoch if epoch == start // per_epoch else 0, per_epoch):
            yield keys[step * batch_size : (step + 1) * batch_size]


def _parallel(load: Callable[[K], Batch | SegcliError], steps: Iterator[K], workers: int) -> Iterator[Batch]:
    """Worker processes run `load` on `steps`; the batches come back in order. More of them than make sense are not
    started, which a note says: what a step holds does not depend on it."""
    most = max(FEW_WORKERS, WORKERS * (os.cpu_count() or 1))
    if workers > most:
        print(f"note: hardware.workers is {workers}: {most} are started on this machine's CPUs", file=sys.stderr)
        workers = most
    parent = os.getpid() if threading.current_thread() is threading.main_thread() else None
    with warnings.catch_warnings():
        # on one core torch advises against two workers, in words that name nothing of a recipe
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        batches = iter(
            DataLoader(
                _Calls(load),
                sampler=steps,
                batch_size=None,
                num_workers=workers,
                prefetch_factor=PREFETCH,
                worker_init_fn=functools.partial(_start_worker, parent),
                generator=torch.Generator(),  # its own: a loader must not advance the global random state
            )
        )
    return _ordered(batches)


def _ordered(results: Iterator[Batch | SegcliError]) -> Iterator[Batch]:
    failure = None
    for result in results:
        if isinstance(result, SegcliError):
            failure = result
            break
        yield result
    # the workers end here, by reference count: an error raised above would hold them in the cycle of its own traceback,
    # and torch waits five seconds for each worker that the garbage collector finds
    del results
    if failure is not None:
        raise failure


class _Calls(torch.utils.data.Dataset[Batch | SegcliError], Generic[K]):
    """A torch dataset whose "index" is all that one batch needs."""

    def __init__(self, load: Callable[[K], Batch | SegcliError]):
        self.load = load

    def __getitem__(self, keys: K) -> Batch | SegcliError:
        return self.load(keys)


def _start_worker(parent: int | None, _: int) -> None:
    if parent is not None:
        end_with(parent)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    # Ctrl-C, and where a cluster stops a job SIGTERM too, reach every process: the main one saves first, and takes the
    # batch of its last step from a worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon if hasattr(signal, "alarm") else signal.SIG_DFL)


def _end_soon(*_: object) -> None:
    signal.alarm(distributed.CLOSING)


def _checked(result: Batch | SegcliError) -> Batch:
    if isinstance(result, SegcliError):
        raise result
    return result
