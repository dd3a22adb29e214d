"""Runs `fastnn train --mpi` on the ranks of MPI: rank 0 as the command, the others silently beside it."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.mpi.ranks import MPIRanks


def run_on_ranks(
    options: argparse.Namespace,
    lead: "Callable[[argparse.Namespace, MPIRanks | None], None]",
    follow: "Callable[[argparse.Namespace, MPIRanks], None]",
) -> None:
    """Run `lead` on rank 0 and `follow` on the others; `lead` without ranks if there is only this process."""
    from fastnn.mpi.ranks import connect
    from fastnn.mpi.training import SLICES

    if getattr(options, "slices", None) is None:
        options.slices = SLICES
    ranks = connect()
    if ranks is None:
        lead(options, None)
        return
    on_ranks(ranks, partial(lead, options), partial(follow, options))


def on_ranks(ranks: "MPIRanks", lead: "Callable[[MPIRanks], None]", follow: "Callable[[MPIRanks], None]") -> None:
    """Run `lead` on rank 0 and `follow` on the others.

    If any rank fails, rank 0 raises the error, and the others end silently; where rank 0 cannot learn of it, the rank
    prints the error and ends all.
    """
    try:
        if ranks.rank == 0:
            lead(ranks)
            ranks.leave()
        else:
            _follow_silently(ranks, follow)
    except BaseException as error:
        ranks.leave(error)
        raise
    finally:
        ranks.finalize()


def _follow_silently(ranks: "MPIRanks", follow: "Callable[[MPIRanks], None]") -> None:
    """Run `follow`. Rank 0 learns of every error and reports it, and the exit code of all is that of rank 0."""
    from fastnn.mpi.ranks import NothingToDo

    try:
        follow(ranks)
        ranks.leave()
    except NothingToDo:
        return
    except (Exception, KeyboardInterrupt) as error:
        ranks.leave(error)
