"""JAX with convolutions as products of patches. Only for networks of images."""

from functools import partial

from benchmarks.compare.contenders import jax_scan

versions = jax_scan.versions
epoch = partial(jax_scan.epoch, form="patches")
predict = partial(jax_scan.predict, form="patches")
