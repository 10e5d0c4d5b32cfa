"""How a measured process talks: in lines of JSON, the same for every framework.

It prints `{"imported_s", "first_step_s", "versions"}` when it has taken its first step.
Then it reads numbers of steps. For each it takes so many steps and prints `{"seconds",
"peak_mb"}`: how long they took, and the process's largest resident set so far, or the
most that its live tensors took.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

NETWORKS = ("densenet", "fc_densenet")  # a class for each picture, or for each pixel


def parse(variants: list[str]) -> argparse.Namespace:
    """Parse the command line of a worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=variants)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--growth-rate", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--network", default="densenet", choices=NETWORKS)
    parser.add_argument("--rank", type=int, default=2, help="1 signals, 3 volumes")
    parser.add_argument("--folder", help="of pictures, batches or exported files")
    parser.add_argument("--xla", action="store_true")
    parser.add_argument(
        "--peak-of",
        default="process",
        choices=["process", "tensors"],
        help="its resident set, or TensorFlow's live tensors",
    )
    return parser.parse_args()


def shape(arguments: argparse.Namespace) -> tuple[int, ...]:
    """Return the shape of a picture: RGB, or one channel of a signal or a volume."""
    channels = 3 if arguments.rank == 2 else 1
    return (*[arguments.image_size] * arguments.rank, channels)


def resident_set_mb() -> float:
    """Return the largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(
    step: Callable[[], object],
    started: float,
    imported: float,
    versions: dict,
    peak_mb: Callable[[], float] = resident_set_mb,
) -> None:
    """Take the first step, then as many as each line of the input asks for."""
    step()
    first = time.perf_counter()
    say(imported_s=imported - started, first_step_s=first - imported, versions=versions)
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line)):
            step()
        seconds = time.perf_counter() - begun
        say(seconds=seconds, peak_mb=peak_mb())


def versions(**of_libraries: str) -> dict[str, str]:
    """Return the versions of libraries, and Python's."""
    return {**of_libraries, "python": sys.version.split()[0]}


def say(**what: object) -> None:
    """Print the values as one line of JSON."""
    print(json.dumps(what), flush=True)
