"""fastnn's NumPy backend, the reference: for networks of images, the NumPy program that a reader can follow."""

from functools import partial

from benchmarks.compare.contenders import fastnn_numba, numpy_blas

versions = numpy_blas.versions
epoch = partial(fastnn_numba.epoch, backend="numpy")
predict = partial(fastnn_numba.predict, backend="numpy")
