"""`Snapshot`: a network as it was at one moment, made when it is first needed."""

from collections.abc import Callable

from fastnn.network.network import Network


class Snapshot:
    """A network that most epochs keep but never look at. Copying its numbers takes less time than making a `Network`.

    Parameters
    ----------
    make : function without arguments
        Returns the network; called once at most, and always with the same result.
    """

    def __init__(self, make: Callable[[], Network]) -> None:
        self._make: Callable[[], Network] | None = make
        self._network: Network | None = None

    @classmethod
    def of(cls, network: Network) -> "Snapshot":
        """Return the snapshot of a network that exists already."""
        snapshot = cls(lambda: network)
        snapshot._network, snapshot._make = network, None
        return snapshot

    @property
    def network(self) -> Network:
        """The network, the same object each time."""
        make = self._make  # of two threads that ask at the same time, both may call it
        if make is not None:
            self._network = make()
            self._make = None
        assert self._network is not None
        return self._network
