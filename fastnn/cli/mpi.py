"""`fastnn mpi --probe`: measures the ranks of MPI, and says when a second machine pays."""

import argparse
import json
from typing import TYPE_CHECKING

from fastnn.cli.options import AddCommand, HiddenUnits
from fastnn.errors import SettingsError

if TYPE_CHECKING:
    from fastnn.mpi.probe import Probe
    from fastnn.network import Network

EXAMPLES = """
  mpiexec -n 2 fastnn mpi --probe                          two ranks of this machine
  mpiexec -hosts one,two -ppn 1 fastnn mpi --probe         one rank on each of two machines
  mpiexec -n 4 fastnn mpi --probe --hidden 800 --batch-size 4096
"""
CALL = "mpiexec -n 2 fastnn mpi --probe"


def register(add: AddCommand) -> None:
    parser = add("mpi", run, "measure the ranks of MPI, and say when a second machine pays", EXAMPLES)
    parser.add_argument("--probe", action="store_true", required=True, help="measure; there is nothing else to do yet")
    parser.add_argument(
        "--hidden", metavar="UNITS", nargs="*", action=HiddenUnits, help="units of each hidden layer (default: 800)"
    )
    for name, default, text in (
        ("inputs", 784, "inputs of the network"),
        ("outputs", 10, "classes of the network"),
        ("batch-size", 1024, "samples in each step"),
        ("slices", 8, "slices of a batch, a power of 2"),
    ):
        parser.add_argument(f"--{name}", metavar="N", type=int, default=default, help=f"{text} (default: {default})")


def run(options: argparse.Namespace) -> None:
    from fastnn.checks import check_integer
    from fastnn.cli.ranks import on_ranks
    from fastnn.mpi.probe import probe
    from fastnn.mpi.ranks import MPIRanks, connect
    from fastnn.network import Network
    from fastnn.optim.config import TrainingConfig

    ranks = connect()
    if ranks is None:
        raise SettingsError(f"there is only this process, expected several ranks: {CALL}")

    def measure(ranks: MPIRanks) -> None:
        sizes = (options.inputs, *([800] if options.hidden is None else options.hidden), options.outputs)
        batch = check_integer("--batch-size", options.batch_size, 1)
        slices = TrainingConfig(slices=options.slices).slices or 1
        network = Network.initialize(sizes, input_scale=1 / 255)
        found = probe(ranks, network, batch, slices)
        if ranks.rank == 0:
            _print(found, network, options)

    on_ranks(ranks, measure, measure)


def _print(found: "Probe", network: "Network", options: argparse.Namespace) -> None:
    from fastnn.mpi.probe import FABRICS, MACHINES

    table = {name: {str(n): round(found.speed_on(n, *fabric), 2) for n in MACHINES} for name, fabric in FABRICS.items()}
    pays = {name: found.batch_that_pays(2, *fabric) for name, fabric in FABRICS.items()}
    if options.json:
        print(json.dumps({**found._asdict(), "speed": found.speed, "machines_by_network": table, "pays_from": pays}))
        return
    where = "one machine" if found.machines == 1 else f"{found.machines} machines"
    print(f"{found.ranks} ranks on {where}")
    print(f"slowest pair: latency {found.latency * 1e6:.1f} us, bandwidth {found.bandwidth / 1e9:.2f} GB/s")
    print(f"{network}, batches of {found.batch:,}")
    print(f"step on one rank alone {found.step * 1e3:.2f} ms, exchange of {found.n_bytes / 1e6:.2f} MB between "
          f"{found.ranks} ranks {found.exchange * 1e3:.2f} ms")  # fmt: skip
    if found.speed > 1:
        print(f"{found.ranks} ranks should be {found.speed:.2f} times as fast as one")
    else:
        print(f"one rank is faster: {found.ranks} ranks would be {found.speed:.2f} times as fast")
    print("\nexpected speed, relative to one machine, of a rank on each machine:")
    print(f"  {'network':16s}{'2':>6s}{'4':>6s}{'8':>6s}   two machines pay from a batch of")
    for name, speeds in table.items():
        print(f"  {name:16s}{''.join(f'{speed:6.2f}' for speed in speeds.values())}   {pays[name]:,}")
