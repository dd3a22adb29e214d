"""PyTorch with `torch.compile`: Inductor generates the forward and backward pass. The update is as in `pytorch`."""

from functools import partial

from benchmarks.compare.contenders import pytorch

versions = pytorch.versions
epoch = partial(pytorch.epoch, compiled=True)
predict = partial(pytorch.predict, compiled=True)
