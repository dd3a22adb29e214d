"""Finds the machine code of a kernel for certain types of arguments: on disk, in the wheel, or by compiling it."""

import hashlib
import os
import time
from types import CodeType
from typing import Any, NamedTuple

from fastnn.kernels.compiler import cache, machine, shipped
from fastnn.kernels.compiler.background import optimizing
from fastnn.kernels.compiler.folder import PrivateFolder
from fastnn.kernels.compiler.kernel_file import pack, unpack

# Numba's options, set by environment variables, that change the machine code.
_OPTIONS = ("NUMBA_BOUNDSCHECK", "NUMBA_DEBUGINFO", "NUMBA_OPT")


class Loaded(NamedTuple):
    """A kernel in this process.

    address: that of its `machine.ENTRY`; None while kernels are recorded for a wheel, and not run
    result: the name of its result's type
    was_on_disk: whether it was loaded from disk
    """

    address: int | None
    result: str
    was_on_disk: bool = False


def version_of(kernel: Any, kind: str, values: list[Any]) -> Loaded:
    """The version of a kernel for arguments like `values`: from disk, or compiled and kept on disk.

    Each version has a file of its own, named by its key and checked before anything in it is run (see `kernel_file`).
    A file that is missing, damaged or unsafe only costs a recompilation, which replaces it.

    kind: names the types of `values`
    """
    found = _from_disk(kernel, kind)
    if found is not None:
        cache.loaded.append(kernel.__name__)
        return found
    cache.announce_compiling_once()
    start, key = time.perf_counter(), _shipped_key(kernel.py_func, kind)
    result, optimized = _split(shipped.find(key) or _optimized(kernel, values))
    if shipped.is_recording():
        shipped.keep(key, _joined(result, optimized))
        return Loaded(None, result)
    with optimizing():
        code = machine.assemble(optimized)
    cache.compilations.append(cache.Compilation(kernel.__name__, time.perf_counter() - start))
    _keep(kernel, kind, _joined(result, code))
    return Loaded(machine.load(code), result)


def _optimized(kernel: Any, values: list[Any]) -> bytes:
    """A kernel's optimised intermediate code, after the name of its result's type."""
    from fastnn.kernels.compiler.trial import lower  # imports Numba

    lowered = lower(kernel.py_func, values, kernel.exact)
    with optimizing():
        return _joined(lowered.result, machine.optimize(lowered.code))


def _joined(result: str, code: bytes) -> bytes:
    return result.encode() + b"\0" + code


def _split(content: bytes) -> tuple[str, bytes]:
    result, code = content.split(b"\0", 1)
    return result.decode(), code


def _from_disk(kernel: Any, kind: str) -> Loaded | None:
    path = cache.cache_folder()
    if path is None:
        return None
    try:
        name, key = _entry(kernel.py_func, kind)
        try:
            with PrivateFolder(path) as folder:
                data = folder.read(name)
        except FileNotFoundError:
            return None
        result, code = _split(bytes(unpack(data, key)))
        return Loaded(machine.load(code), result, was_on_disk=True)
    except PermissionError as error:  # on Windows, another process may be replacing the file
        if os.name != "nt":
            _warn_of_damage(kernel, error)
    except Exception as error:
        _warn_of_damage(kernel, error)
    return None


def _warn_of_damage(kernel: Any, error: Exception) -> None:
    cache.warn_once(
        "damaged",
        f"a file of the compiled kernel {kernel.__name__} in {cache.cache_folder()} cannot be used ({error}); "
        "the kernel is compiled again",
    )


def _keep(kernel: Any, kind: str, content: bytes) -> None:
    """Keep a compiled kernel. Warns if that fails, once in a process."""
    path = cache.cache_folder()
    if path is None or "not saved" in cache.warned:
        return
    try:
        name, key = _entry(kernel.py_func, kind)
        with PrivateFolder(path, create=True) as folder:
            folder.replace(name, pack(key, content))
    except Exception as error:  # a full disk
        if os.name == "nt" and isinstance(error, PermissionError):
            return  # another process reads the file of the same kernel
        cache.warn_once(
            "not saved",
            f"a compiled kernel could not be saved in {path} ({error}); other processes will compile it again",
        )


def _shipped_key(function: Any, kind: str) -> str:
    """All that the optimised code of a shipped kernel depends on: neither the version of Python nor that of Numba."""
    host = machine.host()
    name = f"{function.__module__}.{function.__qualname__}"
    return "\n".join((name, kind, host.triple, host.level, _options(), cache.sources_alone()))


def _options() -> str:
    return repr({name: os.environ.get(name) for name in _OPTIONS})


def _entry(function: Any, kind: str) -> tuple[str, str]:
    """The name of a kernel's file, and its key: all that its machine code depends on."""
    parts = (
        f"{function.__module__}.{function.__qualname__}",
        kind,
        repr(machine.host()),
        _options(),
        cache.sources_digest(),
        hashlib.sha256(_code(function)).hexdigest(),
    )
    key = "\n".join(parts)
    return f"{cache.stem(function)}{hashlib.sha256(key.encode()).hexdigest()[:32]}{cache.ENDING}", key


def _code(function: Any) -> bytes:
    """What a function does, apart from the global functions and variables that it uses."""
    variables = [cell.cell_contents for cell in function.__closure__ or ()]
    within = [_code(each.py_func) if hasattr(each, "py_func") else repr(each) for each in variables]
    return repr((_plain_code(function.__code__), within)).encode()


def _plain_code(code: CodeType) -> tuple:
    constants = [_plain_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return code.co_code, code.co_names, constants
