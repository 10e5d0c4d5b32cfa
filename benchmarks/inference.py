"""Latency and images/s of exported networks, beside other networks and runtimes.

    python benchmarks/inference.py
    python benchmarks/inference.py --networks 121 --batch-sizes 1 --rounds 15

DenseNet-121 at 224 and BC-100-12 at 32, on one batch of noise. Ours takes raw pictures
and standardizes them; the peers take standardized ones. TensorFlow's SavedModels are
run through its C library, as a server runs them. All take turns.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import side_by_side

VARIANTS = [
    "served_ours",
    "served_ours_bfloat16",
    "served_applications",
    "served_openvino",
    "served_openvino_default",
    "served_onnx",
    "served_litert",
    "served_torch",
]
SIZES = {"121": 224, "bc_100_12": 32}
TURN_SECONDS = 0.7


def main() -> None:
    """Measure and report."""
    parser = side_by_side.parser(__doc__, VARIANTS)
    parser.add_argument("--networks", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    variants = side_by_side.available(given.variants)
    for network in given.networks:
        with tempfile.TemporaryDirectory() as folder:
            script = side_by_side.HERE / "inference_files.py"
            subprocess.run([sys.executable, script, network, folder], check=True)
            weigh(Path(folder))
            for batch_size in given.batch_sizes:
                measure(network, Path(folder), batch_size, variants, given)


def weigh(folder: Path) -> None:
    """Print the sizes of the files."""
    for path in (
        "ours/1",
        "ours_bfloat16/1",
        "applications/1",
        "ours.onnx",
        "ours.tflite",
    ):
        files = [folder / path, *(folder / path).rglob("*")]
        size = sum(file.stat().st_size for file in files if file.is_file())
        weights = (folder / path).glob("variables/variables.data*")
        of_weights = sum(file.stat().st_size for file in weights)
        of_which = f", of which {of_weights / 1e6:.2f} variables" if of_weights else ""
        print(f"{path}: {size / 1e6:.2f} MB{of_which}")


def measure(
    network: str,
    folder: Path,
    batch_size: int,
    variants: list[str],
    given: argparse.Namespace,
) -> None:
    """Let all variants answer in turn, and write the table."""
    options = {
        "batch_size": batch_size,
        "image_size": SIZES[network],
        "folder": folder,
    }
    with ExitStack() as stack:
        workers = [
            stack.enter_context(side_by_side.worker(variant, **options))
            for variant in variants
        ]
        versions: dict[str, str] = {}
        steps = {}
        for process in workers:
            versions |= process.first["versions"]
            seconds = process.take(5)["seconds"] / 5  # which also warms up
            steps[process.variant] = max(3, round(TURN_SECONDS / seconds))
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        for _ in range(given.rounds):
            for process in workers:
                many = steps[process.variant]
                process.take(1)  # brings its data into the caches again
                times[process.variant].append(process.take(many)["seconds"] / many)
    what = f"{network} at {SIZES[network]}, batch {batch_size}, {given.rounds} rounds"
    side_by_side.report(
        f"inference_{network}_{batch_size}",
        f"Inference, {what}",
        rows(times, batch_size),
        versions,
        given.output_dir,
    )


def rows(times: dict[str, list[float]], batch_size: int) -> list[dict]:
    """Return medians, and the median of each time divided by ours of the same round."""
    table = []
    for variant, own in times.items():
        row: dict = {
            "variant": side_by_side.LABELS[variant],
            "ms a batch": 1000 * statistics.median(own),
            "fastest": 1000 * min(own),
            "images/s": batch_size / statistics.median(own),
        }
        if "served_ours" in times:
            pairs = zip(own, times["served_ours"], strict=True)
            row["ours is faster by"] = statistics.median(a / b for a, b in pairs)
        table.append(row)
    return table


if __name__ == "__main__":
    main()
