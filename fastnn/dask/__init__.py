"""Training on a Dask cluster: rounds of local epochs, averaged in the order of the replicas."""
