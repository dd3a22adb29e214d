"""Parts of users' scripts: each runs with the estimators of either library, of which only the import differs."""

from benchmarks.workloads.examples import gallery, scripts
from benchmarks.workloads.examples.example import Example

EXAMPLES: dict[str, Example] = {each.name: each for each in (*gallery.EXAMPLES, *scripts.EXAMPLES)}
