"""The compilers of kernels and of their helpers, made from the internals of Numba's compiler.

`trial` imports this file when a kernel must be compiled. If that or anything in here fails, it uses plain Numba.
"""

import ctypes
import functools
import gc

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, Flags, PassManager, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.typed_passes import NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

from fastnn.kernels.compiler import UNTRIED_NUMBA
from fastnn.kernels.compiler.background import leave_at_exit

# Numba runs these passes over each function for closures and for whole-array expressions. Kernels have neither, and the
# passes take a fifteenth of compile time. In a Numba version that was not tried, they may have gained another duty.
_NEEDLESS = (InlineClosureLikes, NopythonRewrites) if numba.version_info.short < UNTRIED_NUMBA else ()

hooks: set[str] = set()
called: set[str] = set()


def _hook(method):
    """Mark a method that Numba must call: its name is in `hooks`, and after a call in `called`."""
    hooks.add(method.__qualname__)

    @functools.wraps(method)
    def recorded(*arguments):
        called.add(method.__qualname__)
        return method(*arguments)

    return recorded


class _Compiler(Compiler):
    """Numba's compiler without the passes that kernels do not need, for code in a library of the class `library`."""

    library: type[JITCodeLibrary]

    @_hook
    def define_pipelines(self):
        pipelines = []
        for whole in super().define_pipelines():
            lean = PassManager(whole.pipeline_name)
            for each, reason in whole.passes:
                if each not in _NEEDLESS:
                    lean.add_pass(each, reason)
            lean.finalize()
            pipelines.append(lean)
        return pipelines

    @_hook
    def compile_extra(self, func):
        self.state.library = self.library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class _Library(JITCodeLibrary):
    """Code whose functions are not optimised one by one, but as part of the kernel that contains them."""

    @_hook
    def _optimize_functions(self, ll_module):
        leave_at_exit()
        ll_module.data_layout = self._codegen._data_layout


class _KernelLibrary(_Library):
    """The code of a kernel. It is linked with its helpers and all helpers they call, which are left unlinked."""

    @_hook
    def finalize(self):
        self._raise_if_finalized()
        libraries = self._linking_libraries
        for library in libraries:  # the list grows during the loop
            libraries += [callee for callee in library._linking_libraries if callee not in libraries]
        for library in dict.fromkeys(libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


class KernelCompiler(_Compiler):
    """Compiles a kernel into a `_KernelLibrary`.

    Meanwhile Python's cyclic garbage collector is off. It would scan Numba's growing data structures again and again,
    which takes a sixth of compile time and frees little. Numba's lock lets only one thread compile at a time, so
    compilations cannot switch the collector back on for each other.
    """

    library = _KernelLibrary

    @_hook
    def compile_extra(self, func):
        collects = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if collects:
                gc.enable()


def lower(function, argument_types, options):
    """Compile a function to LLVM's intermediate code, not optimised, without machine code and wrappers.

    Returns the module, the name of the function in it, and the Numba type of the result.
    """
    flags = Flags()
    cpu_target.options.parse_as_flags(flags, {"nopython": True, **options})
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    typing, target = cpu_target.typing_context, cpu_target.target_context
    with global_compiler_lock:
        typing.refresh()
        target.refresh()
        result = compile_extra(typing, target, function, argument_types, None, flags, {}, pipeline_class=KernelCompiler)
        result.library.finalize()
    return result.library._final_module, result.fndesc.llvm_func_name, result.signature.return_type


class _HelperLibrary(_Library):
    """The code of a helper, as LLVM IR only. It is linked into kernels and never called from elsewhere.

    Numba optimises every function together with its callees, translates it to machine code, and repeats that for each
    caller. Only the copy of a helper inside a kernel ever runs, and that copy is optimised with the kernel. So helpers
    are neither optimised nor linked with their callees.
    """

    @_hook
    def finalize(self):
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True

    @_hook
    def get_pointer_to_function(self, name):
        if name.startswith("_ZN7cpython"):
            # For calls from Python, Numba passes this function an object that cannot be called: it raises TypeError.
            return ctypes.cast(ctypes.pythonapi.PyObject_Call, ctypes.c_void_p).value
        raise TypeError(f"{self.name} is a helper of kernels and has no address: expected a call, not a function value")

    @property
    @_hook
    def codegen(self):
        return _NoAddresses(self._codegen)


class _NoAddresses:
    """Numba's code generator for a library without machine code: there is no variable whose address could be set."""

    def __init__(self, codegen) -> None:
        self._codegen = codegen

    def __getattr__(self, name):
        return getattr(self._codegen, name)

    @_hook
    def set_env(self, env_name, env):
        pass


class HelperCompiler(_Compiler):
    """Compiles a helper into a `_HelperLibrary`.

    Numba counts no references in helpers, which would take a quarter of compile time. So a helper must neither create
    nor return an array.
    """

    library = _HelperLibrary

    def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        flags.nrt = False
        super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)
