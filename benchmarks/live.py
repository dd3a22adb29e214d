"""Measure what the live page costs: the time of training that is watched, as a multiple of the time of plain training.

    python -m benchmarks.live [--rounds N] [--epochs N] [--recipe NAME] [--readers N]

Both trainings alternate, and which of them comes first. Each reader is a process of its own that reads the page's
pictures as fast as they come, as a browser does. The last line has the median of the ratios and their range.
"""

import argparse
import statistics
import subprocess
import sys
import time

import fastnn
from fastnn.live import serve
from fastnn.live.run import LiveRun
from fastnn.live.session import Session

READER = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("GET", "/events", headers={"Authorization": f"Bearer {sys.argv[2]}"})
answer = connection.getresponse()
pictures = 0
while line := answer.readline():
    if line.startswith(b"data: "):
        pictures += 1
        print(pictures, flush=True)
"""


def main() -> None:
    """Run the rounds and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--recipe", default="mnist")
    parser.add_argument("--readers", type=int, default=1)
    options = parser.parse_args()
    recipe = fastnn.get_recipe(options.recipe)
    splits = recipe.load(0)
    network = fastnn.Network.for_data(splits.train, recipe.hidden_layers)
    config = recipe.config.replace(epochs=options.epochs, backend="numba")

    def train(callbacks: list) -> float:
        start = time.perf_counter()
        fastnn.train(network, splits.train, validation=splits.validation, config=config, callbacks=callbacks)
        return time.perf_counter() - start

    session = Session()
    server = serve(session)
    session.watch(LiveRun())
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(server.port), server.token], stdout=subprocess.PIPE, text=True
        )
        for _ in range(options.readers)
    ]
    for reader in readers:
        assert reader.stdout is not None
        reader.stdout.readline()
    fastnn.train(network, splits.train, config=config.replace(epochs=2))  # loads the kernels
    ratios = []
    for number in range(options.rounds):
        seconds = {}
        for kind in ("plain", "live") if number % 2 else ("live", "plain"):
            if kind == "plain":
                seconds[kind] = train([])
            else:
                live = LiveRun()
                session.watch(live)
                versions = live.version
                seconds[kind] = train([live])
                assert live.version > versions
        ratios.append(seconds["live"] / seconds["plain"])
        print(f"plain {seconds['plain']:.3f} s, live {seconds['live']:.3f} s, ratio {ratios[-1]:.3f}", flush=True)
    server.close()
    pictures = [reader.communicate()[0].split()[-1] for reader in readers]
    print(f"pictures read: {', '.join(pictures)}")
    print(f"ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
