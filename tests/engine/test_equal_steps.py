"""Accumulated pieces and several processes train what one big batch does, for every family, over twenty steps."""

import functools
import os
import socket
import subprocess
import sys

import equal_steps
import pytest
import torch
from equal_steps import FAMILIES, train


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """(family, pieces) -> (what one process makes of the whole batch, what two do that have half of it each, in so many
    pieces); they train at the same time."""
    folder, whole = tmp_path_factory.mktemp("two processes"), functools.cache(train)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, equal_steps.__file__, str(folder)]
    pair = [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(i)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{i}.txt").open("w"),
            text=True,
        )
        for i in range(2)
    ]

    def result(name, parts):
        for process in pair:
            process.stdin.write(f"{parts} {name}\n")
            process.stdin.flush()
        own = whole(name)
        said = pair[0].stdout.readline()
        assert said == "saved\n", (folder / "0.txt").read_text() + (folder / "1.txt").read_text()
        return own, torch.load(folder / f"{name}.pt", weights_only=True)

    yield result
    for process in pair:
        process.communicate(timeout=60)


def same(one, other):
    (log, weights), (other_log, other_weights) = one, other
    for step, (x, y) in enumerate(zip(log, other_log, strict=True)):
        assert y == pytest.approx(x, rel=1e-7, abs=1e-12), step
    for key, value in weights.items():
        torch.testing.assert_close(other_weights[key], value, rtol=1e-7, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", FAMILIES)
def test_twenty_steps_are_the_same_whole_in_pieces_and_by_two_processes(two_processes, name):
    whole, by_two = two_processes(name, 1)
    losses = [sum(numbers.values()) for numbers in whole[0]]
    assert max(losses) - min(losses) > 1e-3 * losses[0]
    same(whole, train(name, parts=2))
    same(whole, by_two)


@pytest.mark.parametrize("name", ["rcnn", "maskformer_lite"])
def test_twenty_steps_are_the_same_by_two_processes_in_pieces_each(two_processes, name):
    same(*two_processes(name, 2))
