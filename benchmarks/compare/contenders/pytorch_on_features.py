"""PyTorch on the features of the frozen layers, computed once before the first epoch, as fastnn does."""

from functools import partial

from benchmarks.compare.contenders import pytorch

versions = pytorch.versions
epoch = partial(pytorch.epoch, on_features=True)
