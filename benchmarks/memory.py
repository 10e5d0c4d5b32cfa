"""Memory of training: MB an image, and how it grows with depth.

    python benchmarks/memory.py
    python benchmarks/memory.py --depths 100 --variants full torch_checkpoint

Each point is the largest resident set of a process of its own, after some steps at one
batch size. Its slope over batch sizes is what an image needs; what the libraries, the
weights and the graph need is in none of it. TensorFlow's allocator rounds up to chunks
that it has, by up to a factor of two: hence many sizes, far apart.
"""

import argparse
import math

import numpy as np
import side_by_side

VARIANTS = ["keras", "plain", "true", "full", "recompute_grad", "torch"]
VARIANTS += ["torch_checkpoint"]


def main() -> None:
    """Measure, report and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--depths", nargs="+", type=int, default=[40, 100, 190])
    parser.add_argument("--growth-rate", type=int, default=12)
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=9000, help="of the largest")
    arguments = parser.parse_args()
    rows, versions = [], {}
    for variant in side_by_side.available(arguments.variants):
        row: dict = {"variant": side_by_side.LABELS[variant]}
        for depth in arguments.depths:
            sizes = _batch_sizes(variant, depth, arguments)
            peaks = []
            for size in sizes:
                peak, about = _peak(variant, depth, arguments.growth_rate, size)
                peaks.append(peak)
                versions |= about
            row[f"L={depth}"] = float(np.polyfit(sizes, peaks, 1)[0])
            print(variant, depth, dict(zip(sizes, peaks, strict=True)), flush=True)
        if len(arguments.depths) > 1:
            slopes = [row[f"L={depth}"] for depth in arguments.depths]
            row["exponent"] = _exponent(arguments.depths, slopes)
        rows.append(row)
    title = f"MB an image, DenseNet-BC, k={arguments.growth_rate}, 32x32, float32"
    name = f"memory_{arguments.growth_rate}"
    side_by_side.report(name, title, rows, versions)
    if len(arguments.depths) > 1:
        _draw(rows, arguments.depths, title, side_by_side.RESULTS / f"{name}.png")


def _batch_sizes(variant: str, depth: int, arguments: argparse.Namespace) -> list[int]:
    """Give sizes up to 352, or up to the memory that is to be had."""
    # Of the order of what is measured: MB an image at depth 100 and k = 12.
    guess = {"full": 5, "recompute_grad": 9, "true": 10, "torch_checkpoint": 13}
    exponent = 1 if variant == "full" else 2
    an_image = guess.get(variant, 34) * (depth / 100) ** exponent
    an_image *= arguments.growth_rate / 12
    largest = min(352, arguments.megabytes / an_image)
    sizes = np.linspace(largest / 6, largest, arguments.points)
    return [max(8, int(size) // 8 * 8) for size in sizes]


def _peak(
    variant: str, depth: int, growth_rate: int, batch_size: int
) -> tuple[float, dict]:
    with side_by_side.worker(
        variant, depth=depth, growth_rate=growth_rate, batch_size=batch_size
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
