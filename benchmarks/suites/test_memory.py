"""Peak memory of a training run, minus the memory of its imports, in `extra_info` of the benchmark report."""

import pytest

from benchmarks.compare.programs import DATA_SET_BYTES, SHORT_RUN, can_measure_memory, peak_memory


@pytest.mark.skipif(not can_measure_memory(), reason="needs Linux's /proc")
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_peak(timed, benchmark, backend):
    before, peak = timed(
        lambda: peak_memory([*SHORT_RUN, "--backend", backend], threads=2), rounds=1, compilation=False
    )
    benchmark.extra_info.update(
        imports_bytes=before, peak_bytes=peak, times_the_data_set=(peak - before) / DATA_SET_BYTES
    )
    assert peak > before
