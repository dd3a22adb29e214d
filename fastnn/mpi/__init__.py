"""Training on several processes by MPI: synchronous steps, whose gradients are summed by one fixed tree."""

from fastnn.mpi.training import train

__all__ = ["train"]
