"""Measures the machine's limits: floating-point operations per second and memory bandwidth.

    python -m benchmarks.compare.limits THREADS

BLAS products at the shapes of an epoch are contenders of the case "epoch-sgd" and are timed in its rounds.
"""

import json
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import types
from numba.extending import intrinsic

# Independent multiply-adds per step: more than a core has in flight (a latency of 4 or 5 cycles times 2 units), and
# fewer than the 16 vector registers.
CHAINS = 12
TRIAD_ENTRIES = 2**25


def lanes() -> int:
    """Return the number of float32 entries in this CPU's widest vector."""
    features = binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


@intrinsic
def _chains(context: Any, steps: Any, start: Any) -> Any:
    """Multiply and add `CHAINS` vectors `steps` times, always in registers; return entry 0 of their sum."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, first = arguments
        vector = ir.VectorType(ir.FloatType(), lanes())
        multiply_add = builder.module.declare_intrinsic(
            f"llvm.fma.v{lanes()}f32", fnty=ir.FunctionType(vector, [vector] * 3)
        )
        filled = ir.Constant(vector, ir.Undefined)
        for lane in range(lanes()):
            filled = builder.insert_element(filled, first, ir.IntType(32)(lane))
        before, body, after = builder.block, builder.append_basic_block("chain"), builder.append_basic_block("end")
        builder.branch(body)
        builder.position_at_end(body)
        step = builder.phi(count.type)
        step.add_incoming(count.type(0), before)
        values = [builder.phi(vector) for _ in range(CHAINS)]
        for value in values:
            value.add_incoming(filled, before)
        following = [builder.call(multiply_add, [value, filled, filled]) for value in values]
        for value, new in zip(values, following, strict=True):
            value.add_incoming(new, body)
        next_step = builder.add(step, count.type(1))
        step.add_incoming(next_step, body)
        builder.cbranch(builder.icmp_signed("<", next_step, count), body, after)
        builder.position_at_end(after)
        total = following[0]
        for new in following[1:]:
            total = builder.fadd(total, new)
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.float32(types.int64, types.float32), generate


@numba.njit(nogil=True)
def _multiply_adds(steps: int, start: np.float32) -> np.float32:
    return _chains(steps, start)


@numba.njit(nogil=True, fastmath={"contract"})
def _triad(out: np.ndarray, left: np.ndarray, right: np.ndarray, factor: np.float32) -> None:
    for i in range(len(out)):
        out[i] = left[i] + factor * right[i]


def multiply_adds_on_threads(count: int, threads: int) -> Callable[[], None]:
    """Return a callable that computes `count` float32 multiply-adds on `threads` threads, all data in registers."""
    start = np.float32(0.5)
    _multiply_adds(1, start)
    steps = max(1, round(count / (threads * CHAINS * lanes())))
    return lambda: _on_threads([lambda: _multiply_adds(steps, start)] * threads)


def multiply_add_rate(threads: int, seconds: float = 0.2) -> float:
    """Return the peak float32 operations per second of `threads` threads, with all data in registers.

    A multiply-add counts as two operations.
    """
    count = 1_000_000 * threads * CHAINS * lanes()
    while (took := _seconds(multiply_adds_on_threads(count, threads))) < seconds / 10:
        count *= 4
    count = int(count * seconds / took)
    return 2 * count / _best(multiply_adds_on_threads(count, threads), 3)


def bandwidth(threads: int, entries: int = TRIAD_ENTRIES) -> float:
    """Return the bytes per second of STREAM's triad (McCalpin 1995), counted as two arrays read and one written."""
    left, right, out = (np.full(entries, value, np.float32) for value in (1, 2, 0))
    edges = np.linspace(0, entries, threads + 1).astype(int)
    factor = np.float32(3)

    def part(first: int, end: int) -> Callable[[], None]:
        return lambda: _triad(out[first:end], left[first:end], right[first:end], factor)

    parts = [part(first, end) for first, end in pairwise(edges)]
    _on_threads(parts)
    assert (out == 7).all()
    return 3 * out.nbytes / _best(lambda: _on_threads(parts), 5)


def cpu_model() -> str:
    """Return the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure(threads: int) -> dict[str, Any]:
    """Return all limits with the labels that the report uses."""
    return {
        "cpu": cpu_model(),
        "vector entries": lanes(),
        "GFLOP/s, one thread": multiply_add_rate(1) / 1e9,
        f"GFLOP/s, {threads} threads": multiply_add_rate(threads) / 1e9,
        "triad GB/s, one thread": bandwidth(1) / 1e9,
        f"triad GB/s, {threads} threads": bandwidth(threads) / 1e9,
    }


def _on_threads(calls: list[Callable[[], Any]]) -> None:
    if len(calls) == 1:
        calls[0]()
        return
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


def _best(call: Callable[[], Any], repeats: int) -> float:
    return min(_seconds(call) for _ in range(repeats))


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
