"""PyTorch with both `torch.compile` and channels as the last axis in memory. Only for networks of images."""

from functools import partial

from benchmarks.compare.contenders import pytorch

versions = pytorch.versions
epoch = partial(pytorch.epoch, compiled=True, channels_last=True)
predict = partial(pytorch.predict, compiled=True, channels_last=True)
