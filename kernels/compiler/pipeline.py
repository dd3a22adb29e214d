"""The compilers of kernels and of their helpers. All use of the internals of Numba's compiler is in this file."""

import gc

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, PassManager
from numba.core.typed_passes import NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

# Numba runs these passes over each function for closures and for whole-array expressions. Kernels have neither, and the
# passes take a fifteenth of compile time.
_NEEDLESS = (InlineClosureLikes, NopythonRewrites)


class _Compiler(Compiler):
    """Numba's compiler without the passes that kernels do not need."""

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


class HelperCompiler(_Compiler):
    """Compiles a helper into a `_HelperLibrary`."""

    def compile_extra(self, func):
        return _compile_into(_HelperLibrary, self, func)


class KernelCompiler(_Compiler):
    """Compiles a kernel into a `_KernelLibrary`.

    Meanwhile Python's cyclic garbage collector is off. It would scan Numba's growing data structures again and again,
    which takes a sixth of compile time and frees little. Numba's lock lets only one thread compile at a time, so
    compilations cannot switch the collector back on for each other.
    """

    def compile_extra(self, func):
        collects = gc.isenabled()
        gc.disable()
        try:
            return _compile_into(_KernelLibrary, self, func)
        finally:
            if collects:
                gc.enable()


def _compile_into(kind, compiler, function):
    compiler.state.library = kind(compiler.state.targetctx.codegen(), function.__qualname__)
    compiler.state.library.enable_object_caching()
    return _Compiler.compile_extra(compiler, function)


class _Library(JITCodeLibrary):
    """Code whose functions are not optimised one by one, but as part of the kernel that contains them."""

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout


class _KernelLibrary(_Library):
    """The code of a kernel, linked with its helpers and all helpers they call: helper libraries are left unlinked."""

    def finalize(self):
        libraries = self._linking_libraries
        for library in libraries:  # the list grows during the loop
            libraries += [callee for callee in library._linking_libraries if callee not in libraries]
        super().finalize()

    def _optimize_final_module(self):
        # One run of -O2. Numba optimises twice, the first time only to find reference counts it can remove. With
        # explicit vectors -O2 gives code as good as -O3 and saves a twentieth of compile time.
        passes, builder = self._codegen._module_pass_manager(opt=2)
        passes.run(self._final_module, builder)


class _HelperLibrary(_Library):
    """The code of a helper, as LLVM IR only. It is linked into kernels and never called from elsewhere.

    Numba optimises every function together with its callees, translates it to machine code, and repeats that for each
    caller. Only the copy of a helper inside a kernel ever runs, and that copy is optimised with the kernel. So helpers
    are neither optimised nor linked with their callees.
    """

    def finalize(self):
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        return 0

    @property
    def codegen(self):
        return _NoAddresses(self._codegen)


class _NoAddresses:
    """Numba's code generator for a library without machine code: there is no variable whose address could be set."""

    def __init__(self, codegen) -> None:
        self._codegen = codegen

    def __getattr__(self, name):
        return getattr(self._codegen, name)

    def set_env(self, env_name, env):
        pass
