"""How Numba compiles kernels and their helpers: everything that touches the internals of its compiler."""

import gc

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, PassManager
from numba.core.typed_passes import NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

# Passes of Numba's over each function, for what kernels do not have: closures, and expressions of whole arrays. They
# take a fifteenth of the time.
_NEEDLESS = (InlineClosureLikes, NopythonRewrites)


class _Compiler(Compiler):
    """Numba's compiler, without what kernels do not need."""

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
    """The compiler into a `_HelperLibrary`."""

    def compile_extra(self, func):
        return _compile_into(_HelperLibrary, self, func)


class KernelCompiler(_Compiler):
    """The compiler into a `_KernelLibrary`.

    Python's collector of cycles rests meanwhile: it would look through what Numba builds up again and again, a sixth of
    the time, and find little. Numba's lock lets one thread compile at a time, so nobody else's pause is ended here.
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
    """Code whose functions are not optimised one by one: whatever of it runs is optimised as part of a kernel."""

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout


class _KernelLibrary(_Library):
    """The code of a kernel: it is linked with all that its helpers call, which they themselves are not."""

    def finalize(self):
        libraries = self._linking_libraries
        for library in libraries:  # which grows meanwhile
            libraries += [callee for callee in library._linking_libraries if callee not in libraries]
        super().finalize()

    def _optimize_final_module(self):
        # Once, where Numba goes over it twice in search of references, and by what LLVM calls -O2, which with explicit
        # vectors is as good as -O3, and a twentieth of all compiling faster.
        passes, builder = self._codegen._module_pass_manager(opt=2)
        passes.run(self._final_module, builder)


class _HelperLibrary(_Library):
    """The code of a helper, as LLVM's language only: it is linked into kernels, and never called from elsewhere.

    Numba optimises every function by itself, with all that it calls, and translates it to machine code, and then does
    the same again for each of its callers. Only what becomes of it inside a kernel ever runs, and that is optimised
    with the kernel: so helpers are left as they are, without what they call.
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
    """Numba's code generator for a library that has no machine code, so no variable whose address could be set."""

    def __init__(self, codegen) -> None:
        self._codegen = codegen

    def __getattr__(self, name):
        return getattr(self._codegen, name)

    def set_env(self, env_name, env):
        pass
