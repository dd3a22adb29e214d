"""Training on a Dask cluster: rounds of local epochs, averaged in the order of the replicas.

Examples
--------
>>> import fastnn
>>> import fastnn.dask
>>> data = fastnn.load_digits()
>>> network = fastnn.Network.for_data(data, hidden=(16,))
>>> fastnn.dask.train(network, data, client="synchronous", replicas=2, epochs=3).stopped
'epochs'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn.errors import needs_extra

if TYPE_CHECKING:
    from fastnn.dask.estimators import DaskMLPClassifier as DaskMLPClassifier
    from fastnn.dask.estimators import DaskMLPRegressor as DaskMLPRegressor
    from fastnn.dask.training import train as train
    from fastnn.dask.warm_up import WarmUp as WarmUp

# The public names, and their modules, which are imported on first use: they import Dask.
_MODULE_OF = {
    "DaskMLPClassifier": "estimators",
    "DaskMLPRegressor": "estimators",
    "WarmUp": "warm_up",
    "train": "training",
}
__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'fastnn.dask' has no attribute {name!r}")
    with needs_extra("fastnn.dask needs dask and distributed", "dask"):
        value = getattr(import_module(f"fastnn.dask.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
