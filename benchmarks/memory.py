r"""Memory of training: MB an image, and how it grows with depth.

    python benchmarks/memory.py
    python benchmarks/memory.py --depths 100 --variants full torch_checkpoint
    python benchmarks/memory.py --depths 264 --growth-rate 48 --image-size 224 \
        --variants plain true --batch-sizes plain=2,4,6 true=2,8,16
    python benchmarks/memory.py --rank 3 --image-size 64 --depths 121 \
        --growth-rate 32 --variants keras plain true full torch_monai
    python benchmarks/memory.py --peak-of tensors --variants keras full

Each point is the largest resident set of a process of its own, after some steps at one
batch size. The slope over batch sizes is what an image needs; what the libraries, the
weights and the graph need is not part of it. TensorFlow's allocator rounds up to chunks
that it has, by up to a factor of two: hence many batch sizes, far apart. With
`--peak-of tensors` each point is the most that TensorFlow's live tensors took, which
depends on no allocator; PyTorch has no such log.
"""

import argparse
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import side_by_side
from worker import NETWORKS

OURS = ["plain", "true", "full"]
VARIANTS = ["keras", *OURS, "recompute_grad", "torch"]
VARIANTS += ["torch_checkpoint", "torch_monai"]


def main() -> None:
    """Measure, report and draw."""
    parser = side_by_side.parser(__doc__, VARIANTS)
    parser.add_argument("--depths", nargs="+", type=int, default=[40, 100, 190])
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--network", default="densenet", choices=NETWORKS)
    parser.add_argument("--rank", type=int, default=2, help="1 signals, 3 volumes")
    parser.add_argument(
        "--batch-sizes",
        nargs="*",
        type=_variant_and_sizes,
        default=[],
        metavar="VARIANT=N,N,...",
        help="batch sizes of a variant, instead of guessed ones",
    )
    parser.add_argument("--points", type=int, default=5, help="number of guessed sizes")
    parser.add_argument(
        "--megabytes", type=int, default=9000, help="memory of the largest process"
    )
    parser.add_argument("--peak-of", default="process", choices=["process", "tensors"])
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    arguments = parser.parse_args()
    _refuse_variants(parser, arguments)
    rows, versions = [], {}
    for variant in side_by_side.available(arguments.variants):
        row: dict = {"variant": side_by_side.LABELS[variant]}
        for depth in arguments.depths:
            sizes = dict(arguments.batch_sizes).get(variant)
            sizes = sizes or _batch_sizes(variant, depth, arguments)
            with ThreadPoolExecutor(arguments.jobs) as pool:
                runs = [
                    pool.submit(_peak, variant, depth, size, arguments)
                    for size in reversed(sizes)  # the one that takes longest first
                ]
            peaks = [run.result()[0] for run in reversed(runs)]
            versions |= runs[0].result()[1]
            slope, rest = np.polyfit(sizes, peaks, 1)
            row[f"L={depth}"] = float(slope)
            if len(arguments.depths) == 1:
                row |= _largest(slope, rest, arguments)
            print(variant, depth, dict(zip(sizes, peaks, strict=True)), flush=True)
        if len(arguments.depths) > 1:
            slopes = [row[f"L={depth}"] for depth in arguments.depths]
            row["exponent"] = _exponent(arguments.depths, slopes)
        rows.append(row)
    size = side_by_side.sides(arguments)
    title = f"MB an image, k={arguments.growth_rate}, {size}, float32"
    size = arguments.image_size if arguments.rank == 2 else size
    name = "_".join(str(n) for n in (*arguments.depths, arguments.growth_rate, size))
    if arguments.network == "fc_densenet":
        name, title = f"fc_{name}", f"FC-DenseNet, {title}"
    if arguments.peak_of == "tensors":
        name, title = f"tensors_{name}", f"{title}, live tensors"
    side_by_side.report(f"memory_{name}", title, rows, versions, arguments.output_dir)
    if len(arguments.depths) > 1:
        picture = arguments.output_dir / f"memory_{name}.png"
        _draw(rows, arguments.depths, title, picture)


def _refuse_variants(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> None:
    others = [v for v in arguments.variants if v.startswith("torch")]
    if arguments.peak_of == "tensors" and others:
        parser.error(
            "--peak-of tensors is of TensorFlow's tensors: name --variants without "
            f"{', '.join(others)}"
        )
    if arguments.network == "fc_densenet" and {*arguments.variants} - {*OURS}:
        parser.error(f"FC-DenseNets are ours alone: --variants {' '.join(OURS)}")


def _largest(
    slope: float, rest: float, arguments: argparse.Namespace
) -> dict[str, int]:
    """Return how many images fit the memory of accelerators, and how large a cube."""
    rooms = {gb: gb * 1024 - rest for gb in (16, 24, 80)}
    row = {f"batch at {gb} GB": int(room // slope) for gb, room in rooms.items()}
    if arguments.rank != 3:
        return row
    cubes = {
        f"cube at {gb} GB": int(arguments.image_size * (room / slope) ** (1 / 3))
        for gb, room in rooms.items()
    }
    return row | cubes


def _variant_and_sizes(text: str) -> tuple[str, list[int]]:
    variant, sizes = text.split("=")
    return variant, [int(size) for size in sizes.split(",")]


def _batch_sizes(variant: str, depth: int, arguments: argparse.Namespace) -> list[int]:
    """Return batch sizes up to 352, or up to what fits the memory."""
    # Roughly what is measured, in MB an image at depth 100 and k = 12.
    guess = {"full": 5, "recompute_grad": 9, "true": 10, "torch_checkpoint": 13}
    exponent = 1 if variant == "full" else 2
    an_image = guess.get(variant, 34) * (depth / 100) ** exponent
    an_image *= arguments.growth_rate / 12
    an_image *= arguments.image_size**arguments.rank / 32**2
    if depth == 121:  # whose stem leaves a quarter of each side
        an_image /= 4**arguments.rank
    largest = min(352, arguments.megabytes / an_image)
    sizes = np.linspace(largest / 6, largest, arguments.points)
    if largest < 64:
        return sorted({max(1, round(size)) for size in sizes})
    return [max(8, int(size) // 8 * 8) for size in sizes]


def _peak(
    variant: str, depth: int, batch_size: int, arguments: argparse.Namespace
) -> tuple[float, dict]:
    with side_by_side.worker(
        variant,
        depth=depth,
        growth_rate=arguments.growth_rate,
        image_size=arguments.image_size,
        rank=arguments.rank,
        network=arguments.network,
        batch_size=batch_size,
        peak_of=arguments.peak_of,
    ) as worker:
        return worker.take(2)["peak_mb"], worker.first["versions"]


def _exponent(depths: list[int], slopes: list[float]) -> float:
    """Fit p of `slope = c depth^p`."""
    return float(np.polyfit(np.log(depths), np.log(slopes), 1)[0])


def _draw(rows: list[dict], depths: list[int], title: str, path: object) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for row in rows:
        slopes = [row[f"L={depth}"] for depth in depths]
        label = f"{row['variant']}: L^{row['exponent']:.2f}"
        axes.plot(depths, slopes, marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="depth L", ylabel="MB an image")
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.minorticks_off()
    lowest = min(row[f"L={depth}"] for row in rows for depth in depths)
    highest = max(row[f"L={depth}"] for row in rows for depth in depths)
    powers = range(math.floor(math.log2(lowest)), math.ceil(math.log2(highest)) + 1)
    axes.set_yticks([2.0**p for p in powers], [f"{2.0**p:g}" for p in powers])
    axes.grid(alpha=0.3)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
