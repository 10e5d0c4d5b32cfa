"""Images/s of the input pipelines, beside a plain tf.data pipeline and PIL.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --variants jpeg_ours jpeg_plain --rounds 9

CIFAR stands for 50,000 pictures of 32x32 random pixels in memory, which are shifted,
mirrored and standardized. JPEGs have 500x400 pixels, cut out of the two photographs
that come with scikit-learn; a random part is resized to 224, mirrored and standardized.
Nothing else runs, whereas in training the network leaves the pipeline few of the cores.

All take turns. Batches that a pipeline made while others had their turn are used up
before the clock runs.
"""

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import side_by_side
from PIL import Image
from sklearn.datasets import load_sample_images

VARIANTS = ["cifar_ours", "cifar_plain", "cifar_torch"]
VARIANTS += ["jpeg_ours", "jpeg_plain", "jpeg_torch"]
BATCHES = {"cifar": 1000, "jpeg": 20}  # measured in a turn
WARM_UP = {"cifar": 200, "jpeg": 8}  # used up before they are measured
PICTURES = 128


def main() -> None:
    """Measure and report."""
    parser = side_by_side.parser(__doc__, VARIANTS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of the batches of a turn, which are 1000 for CIFAR and 20 for JPEGs",
    )
    arguments = parser.parse_args()
    variants = side_by_side.available(arguments.variants)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write_jpegs(Path(folder))
        workers = {
            variant: stack.enter_context(
                side_by_side.worker(
                    variant, batch_size=arguments.batch_size, folder=folder
                )
            )
            for variant in variants
        }
        speeds = {variant: [] for variant in variants}
        for _ in range(arguments.rounds):
            for variant, process in workers.items():
                speeds[variant].append(speed(process, arguments))
        versions = {}
        for process in workers.values():
            versions |= process.first["versions"]
    side_by_side.report(
        "input_pipeline",
        f"Input pipelines, batch {arguments.batch_size}",
        rows(speeds),
        versions,
        arguments.output_dir,
    )


def write_jpegs(folder: Path) -> None:
    """Cut pictures of 500x400 out of two photographs of 640x427, one class each."""
    rng = np.random.default_rng(0)
    for label, photograph in enumerate(load_sample_images().images):
        (folder / str(label)).mkdir()
        for number in range(PICTURES // 2):
            top, left = rng.integers(0, 28), rng.integers(0, 141)
            pixels = photograph[top : top + 400, left : left + 500]
            path = folder / str(label) / f"{number}.jpg"
            Image.fromarray(pixels).save(path, quality=90)


def speed(process: side_by_side.Worker, arguments: argparse.Namespace) -> float:
    """Return the images/s of one turn."""
    kind = process.variant.split("_")[0]
    process.take(WARM_UP[kind])
    batches = max(1, round(BATCHES[kind] * arguments.share))
    return batches * arguments.batch_size / process.take(batches)["seconds"]


def rows(speeds: dict[str, list[float]]) -> list[dict]:
    """Return medians, and the median of our speed by each one's of the same round."""
    table = []
    for variant, runs in speeds.items():
        ours = speeds.get(f"{variant.split('_')[0]}_ours", runs)
        ratios = [mine / theirs for mine, theirs in zip(ours, runs, strict=True)]
        table.append(
            {
                "variant": side_by_side.LABELS[variant],
                "images/s": round(statistics.median(runs)),
                "range": f"{min(runs):.0f} to {max(runs):.0f}",
                "ours is faster by": statistics.median(ratios),
            }
        )
    return table


if __name__ == "__main__":
    main()
