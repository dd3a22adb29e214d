"""Reports which kernels this process really ran. Loaded libraries are queried after the work."""

import ctypes
import os
import re
import sys
import tempfile
from pathlib import Path


def loaded_kernels() -> dict[str, str]:
    """Return the kernels and threads that each loaded library reports. Libraries that are not loaded are left out."""
    found = _thread_pools()
    for library, describe in _DESCRIPTIONS.items():
        if library in sys.modules:
            found.update(describe())
    return found


def _thread_pools() -> dict[str, str]:
    from threadpoolctl import threadpool_info

    found = {}
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            library = Path(pool["filepath"]).parent.name.removesuffix(".libs")
            parts = [pool["internal_api"], pool.get("version"), pool.get("architecture")]
            text = " ".join(str(part) for part in parts if part)
            found[f"BLAS in {library}"] = f"{text}, {_threads(pool['num_threads'])}"
        else:
            found[f"{pool['user_api']} ({pool['prefix']})"] = _threads(pool["num_threads"])
    return found


def _numpy() -> dict[str, str]:
    import numpy as np

    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    return {"NumPy's CPU features": " ".join([*simd.get("baseline", []), *simd.get("found", [])])}


def _torch() -> dict[str, str]:
    import torch

    config = torch.__config__.show()
    versions = [
        f"{name} {match[1]}"
        for name, pattern in (("MKL", r"Math Kernel Library Version ([\d.]+)"), ("oneDNN", r"MKL-DNN v([\d.]+)"))
        if (match := re.search(pattern, config))
    ]
    parts = [torch.backends.cpu.get_cpu_capability(), *versions, _threads(torch.get_num_threads())]
    found = {"PyTorch": ", ".join(parts)}
    if torch.backends.mkl.is_available():
        found["MKL in PyTorch"] = _mkl_instructions()
    return found


def _mkl_instructions() -> str:
    """Return the instruction set of MKL's kernels, which MKL prints for a product in verbose mode."""
    import torch

    stdout = os.dup(1)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        try:
            with torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON):
                torch.ones(2, 2) @ torch.ones(2, 2)
            ctypes.CDLL(None).fflush(None)
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        log.seek(0)
        text = log.read().decode(errors="replace").replace("(R)", "")
    found = re.search(r"architecture (.+?)(?: with support|, \w+ [\d.]+GHz|\n)", text)
    return found[1] if found else "unknown"


def _fastnn() -> dict[str, str]:
    from fastnn.kernels.compiler.machine import host

    _, cpu, features = host()
    vectors = next((name for name in ("avx512f", "avx2", "avx", "neon", "sve") if f"+{name}" in features), "no vectors")
    return {"Numba": f"code for {cpu}, {vectors}"}


def _jax() -> dict[str, str]:
    import jax

    return {"XLA": f"code for this {jax.default_backend()}, XLA_FLAGS={os.environ.get('XLA_FLAGS', '')!r}"}


def _tensorflow() -> dict[str, str]:
    import tensorflow as tf

    threads = _threads(tf.config.threading.get_intra_op_parallelism_threads())
    return {"TensorFlow": f"Eigen and oneDNN, chooses its own kernels; {threads}"}


def _onnxruntime() -> dict[str, str]:
    import onnxruntime

    return {"onnxruntime": f"MLAS, chooses its own kernels; {', '.join(onnxruntime.get_available_providers())}"}


_DESCRIPTIONS = {
    "numpy": _numpy,
    "fastnn.kernels.compiler.machine": _fastnn,
    "torch": _torch,
    "jax": _jax,
    "tensorflow": _tensorflow,
    "onnxruntime": _onnxruntime,
}


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"
