"""PyTorch with images and kernels whose channels are the last axis in memory. Only for networks of images."""

from functools import partial

from benchmarks.compare.contenders import pytorch

versions = pytorch.versions
epoch = partial(pytorch.epoch, channels_last=True)
predict = partial(pytorch.predict, channels_last=True)
