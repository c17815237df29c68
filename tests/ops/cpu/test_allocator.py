"""A process that keeps freed memory does not fault the pages of its next large block in again."""

import subprocess
import sys

import pytest

from segcli.ops.cpu.allocator import keep_freed_memory

FAULTS = """
import ctypes, resource, sys
from segcli.ops.cpu.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("refused")
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def block(size=100 << 20):
    at = c.malloc(size)
    ctypes.memset(at, 1, size)
    c.free(at)
block()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    block()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True)
    return pytest.skip("this C library has no mallopt") if "refused" in done.stderr else int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_freed_blocks_are_used_again():
    assert faults("keep") < 0.1 * faults("default")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
