"""Many runs: a grid of settings and seeds on threads, processes or Dask, with a journal that survives a kill."""
