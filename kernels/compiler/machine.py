"""LLVM's own part: from LLVM's intermediate code to machine code for this CPU, and to the address of a function.

Only `llvmlite.binding` is imported, which takes a sixth of the time that Numba takes.
"""

import ctypes
import os
import platform
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm

if llvm.llvm_version_info < (19,):  # older LLVM crashes on the intrinsic of `bits.list_nonzero`
    raise ImportError(f"Numba with LLVM {llvm.llvm_version_info[0]} is too old, expected 0.62 or newer")

# The name of the function in each kernel's machine code that is called, and its type.
ENTRY = "fastnn_entry"
ENTRY_TYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p)


class Host(NamedTuple):
    """The CPU that kernels are compiled for: this one, unless NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name another.

    triple: LLVM's name of the processor family and the system
    cpu: LLVM's name of the CPU
    features: what the CPU can do, as LLVM's list of "+name" and "-name"
    """

    triple: str
    cpu: str
    features: str

    @property
    def has_whole_registers(self) -> bool:
        """Whether a vector of 64 bytes fits in one register."""
        return "+avx512f" in self.features.split(",")

    @property
    def level(self) -> str:
        """The CPU that the optimiser reckons with: the oldest of those with the same registers.

        So optimised code is the same on all of them, and can be made on another computer.
        """
        if not self.triple.startswith(("x86_64", "amd64")):
            return ""
        features = self.features.split(",")
        if self.has_whole_registers:
            return "x86-64-v4"
        return "x86-64-v3" if "+avx2" in features and "+fma" in features else "x86-64"


@cache
def host() -> Host:
    """The CPU that kernels are compiled for."""
    cpu, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None and (cpu or "").lower() == "generic":
        features = ""  # as in Numba
    elif features is None:
        found = llvm.get_host_cpu_features()
        if os.environ.get("NUMBA_ENABLE_AVX", "1") == "0":
            found.update({name: False for name in found if name.startswith("avx")})
        features = found.flatten()
    return Host(llvm.get_process_triple(), cpu or llvm.get_host_cpu_name(), features)


@cache
def _machine(cpu: str, features: str) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # As Numba's for code that runs in this process.
    relocation = "static" if platform.machine().lower() in ("x86_64", "amd64", "i686") else "default"
    return llvm.Target.from_triple(host().triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc=relocation, codemodel="jitdefault", jit=True
    )


def add_entry(module: Any, function: str, returns: bool) -> None:
    """Add the function ENTRY, which takes pointers to words of `arguments.Record` and calls a function of Numba's.

    The words of all arguments are contiguous. If `returns` is true, the words begin with the address of the result.
    ENTRY returns 0, or another number if the function has raised an exception.
    """
    kinds = [str(each.type) for each in module.get_function(function).arguments][2:]
    body, values = [], []
    for k, kind in enumerate(kinds):
        body.append(f"%at{k} = getelementptr i64, ptr %words, i64 {k + returns}")
        whole = kind.startswith("i") and kind != "i64"
        body.append(f"%word{k} = load {'i64' if whole else kind}, ptr %at{k}, align 8")
        if whole:
            body.append(f"%small{k} = trunc i64 %word{k} to {kind}")
        values.append(f"{kind} %{'small' if whole else 'word'}{k}")
    result = "%result = load ptr, ptr %words" if returns else "%result = alloca [4 x i64]"
    called = ", ".join(["ptr %result", "ptr %error", *values])
    text = f"""
        declare i32 @"{function}"({", ".join(["ptr", "ptr", *kinds])})
        define i32 @{ENTRY}(ptr %words) {{
            {result}
            %error = alloca ptr
            store ptr null, ptr %error
            {chr(10).join(body)}
            %status = call i32 @"{function}"({called})
            ret i32 %status
        }}
    """
    entry = llvm.parse_assembly(text)
    entry.triple, entry.data_layout = module.triple, module.data_layout
    module.link_in(entry)
    # What nothing calls is left out, if it is internal: plain `njit` has made wrappers for Python.
    wrappers = [each for each in module.functions if each.name.startswith(("_ZN7cpython", "cfunc."))]
    for each in (module.get_function(function), *wrappers):
        if not each.is_declaration:
            each.linkage = "internal"
    module.verify()


def optimize(code: bytes) -> bytes:
    """Optimise LLVM's intermediate code, and leave out what ENTRY does not need.

    With explicit vectors -O2 gives code as good as -O3 and saves a twentieth of compile time.
    """
    module = llvm.parse_bitcode(code)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = True
    builder = llvm.create_pass_builder(_machine(host().level, "" if host().level else host().features), options)
    builder.getModulePassManager().run(module, builder)
    _check_addresses(module)
    return module.as_bitcode()


_NOT_OURS = ("numba_", "NRT_", "Py", "_Py")


def _check_addresses(module: Any) -> None:
    """Raise TypeError if the code needs an address that another process may not have: loading it would end Python."""
    globals_ = [each.name for each in module.global_variables if each.name.startswith("numba.dynamic.globals")]
    outside = [each.name for each in module.functions if each.is_declaration and not each.name.startswith("llvm.")]
    # Numba has announced its own functions to LLVM in this process.
    missing = [name for name in outside if name.startswith(_NOT_OURS) or llvm.address_of_symbol(name) is None]
    if globals_ or missing:
        raise TypeError(f"a kernel needs {', '.join(globals_ + missing)}, which its machine code cannot have")


def assemble(code: bytes) -> bytes:
    """The machine code of optimised intermediate code, an object file."""
    return _machine(host().cpu, host().features).emit_object(llvm.parse_bitcode(code))


_engines: list[Any] = []


def load(machine_code: bytes) -> int:
    """Load an object file into this process, where it stays. Returns the address of ENTRY."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(host().cpu, host().features))
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
    engine.finalize_object()
    address = engine.get_function_address(ENTRY)
    if not address:
        raise ValueError(f"no function {ENTRY}")
    _engines.append(engine)
    return address
