r"""Losses of one and the same training, step by step, in ours and in PyTorch.

    python benchmarks/loss_curves.py --data-dir tfds

DenseNet-BC (L = 40, k = 12) is trained on CIFAR-10 by the authors' recipe in float32:
SGD, rate 0.1, Nesterov momentum 0.9, coupled weight decay 1e-4, pictures mirrored and
shifted. Every variant begins with the same weights and reads the same batches in the
same order, which are written once, by ours, 0.8 MB a step.

A training is chaotic: one rounding makes two runs of the same program drift apart. So
PyTorch also trains with weights that are 1e-7 off and, for the first 100 steps, with
another layout of its maps in the memory, for which it has other kernels. Ours also
recomputes (`memory_efficient="full"`). These show how far apart rounding alone takes
two runs, which is what the difference between ours and PyTorch must be compared with.

The variants are trained one after another. What one has found is kept in `--folder`,
with the batches: called again, the program goes on with the next one, or draws anew.
Delete that folder to train anew.
"""

import argparse
import csv
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import side_by_side
import written_batches

from keras_densenet.whole_file import whole_file

VARIANTS = [
    "losses_torch",
    "losses_plain",
    "losses_torch_perturbed",
    "losses_full",
    "losses_torch_channels_first",
]
BRIEF = {"losses_torch_channels_first": 100}  # steps of what is not trained to the end
CHUNK = 50  # steps after which a variant's progress is printed
FIRST = (1, 20, 100, 500)
LAST = 500
SMOOTHED = 100  # steps that a smoothed curve is the mean of
PICTURE = side_by_side.HERE.parent / "docs" / "loss_curves.png"


class Pair(NamedTuple):
    """Two variants to compare, and how their difference is drawn."""

    one: str
    other: str
    label: str
    color: str  # of Okabe and Ito's, which the color-blind can tell apart
    line: str


PAIRS = [
    Pair("losses_plain", "losses_torch", "ours against PyTorch", "#0072B2", "-"),
    Pair(
        "losses_torch_perturbed",
        "losses_torch",
        "PyTorch, weights 1e-7 off, against PyTorch",
        "#D55E00",
        "--",
    ),
    Pair(
        "losses_torch_channels_first",
        "losses_torch",
        "PyTorch, channels first, against PyTorch",
        "#E69F00",
        "-.",
    ),
    Pair("losses_full", "losses_plain", 'ours, "full", against ours', "#009E73", ":"),
]
LOSSES = [("losses_torch", "#D55E00", "-"), ("losses_plain", "#0072B2", "--")]


class Run(NamedTuple):
    """What a variant found."""

    losses: np.ndarray  # (steps,)
    test_error: float | None  # in percent; None if it was not trained to the end
    versions: dict[str, str]


def main() -> None:
    """Write the batches, train each variant, report and draw."""
    arguments = parsed()
    folder = arguments.folder or default_folder(arguments)
    variants = side_by_side.available(arguments.variants)
    if not (folder / written_batches.WEIGHTS).exists():
        print(f"Writing {arguments.steps} batches to {folder}", flush=True)
        write(folder, arguments)
    runs = {variant: kept(variant, folder, arguments) for variant in variants}
    report(runs, arguments)
    draw(runs, title(arguments), arguments.picture)


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = side_by_side.parser(__doc__, VARIANTS)
    parser.add_argument("--depth", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument("--data-dir", help="where TensorFlow Datasets has CIFAR-10")
    parser.add_argument("--data-title", default="CIFAR-10", help="for the titles")
    parser.add_argument(
        "--folder", type=Path, help="for batches and what variants found"
    )
    parser.add_argument("--picture", type=Path, default=PICTURE, help="to be drawn")
    return parser.parse_args()


def default_folder(arguments: argparse.Namespace) -> Path:
    """Return a temporary folder, the same for the same settings."""
    names = ("depth", "growth_rate", "batch_size", "steps", "seed")
    settings = "_".join(str(getattr(arguments, name)) for name in names)
    return Path(tempfile.gettempdir()) / f"loss_curves_{settings}"


def title(arguments: argparse.Namespace) -> str:
    """Return what was trained, in words."""
    return (
        f"DenseNet-BC (L={arguments.depth}, k={arguments.growth_rate}), "
        f"batch {arguments.batch_size}, {arguments.data_title}"
    )


# --- training --------------------------------------------------------------------


def write(folder: Path, arguments: argparse.Namespace) -> None:
    """Write what every variant reads: batches, test pictures and, last, weights."""
    import keras_densenet as kd

    folder.mkdir(parents=True, exist_ok=True)
    kd.seed_everything(arguments.seed)
    data = kd.data.CIFAR10(
        batch_size=arguments.batch_size,
        augment=True,
        seed=arguments.seed,
        data_dir=arguments.data_dir,
    )
    data.prepare_data()
    data.setup("fit")
    batches = data.train_batches(0).take(arguments.steps)
    written_batches.write(folder, batches.as_numpy_iterator(), arguments.steps)
    data.setup("test")
    tested = zip(*data.test_dataset().as_numpy_iterator(), strict=True)
    for part, arrays in zip(written_batches.Pictures._fields, tested, strict=True):
        np.save(folder / f"test_{part}.npy", np.concatenate(arrays))
    model = kd.DenseNetBC(arguments.depth, arguments.growth_rate)
    kd.weights.save(model, folder / written_batches.WEIGHTS)


def kept(variant: str, folder: Path, arguments: argparse.Namespace) -> Run:
    """Return what a variant found before, or train it now and keep what it finds."""
    path = folder / f"{variant}.json"
    if path.exists():
        print(f"{variant} was trained before, in {folder}", flush=True)
    else:
        found = trained(variant, folder, arguments)
        with whole_file(path) as beside:
            beside.write_text(json.dumps(found))
    found = json.loads(path.read_text())
    return Run(**found | {"losses": np.array(found["losses"])})


def trained(variant: str, folder: Path, arguments: argparse.Namespace) -> dict:
    """Train a variant, and return the fields of its `Run`."""
    losses: list[float] = []
    steps = min(arguments.steps, BRIEF.get(variant, arguments.steps))
    with side_by_side.worker(
        variant,
        depth=arguments.depth,
        growth_rate=arguments.growth_rate,
        folder=folder,
    ) as worker:
        while len(losses) < steps:
            answer = worker.take(min(CHUNK, steps - len(losses)))
            losses += answer["losses"]
            print(f"{variant}, step {len(losses)}: {losses[-1]:.3f}", flush=True)
        return {
            "losses": losses,
            "test_error": answer.get("test_error"),
            "versions": worker.first["versions"],
        }


# --- numbers ---------------------------------------------------------------------


def report(runs: dict[str, Run], arguments: argparse.Namespace) -> None:
    """Print and write a table of the variants, one of the pairs, and all losses."""
    versions: dict[str, str] = {}
    for run in runs.values():
        versions |= run.versions
    where = (versions, arguments.output_dir)
    rows = [row_of_run(v, run, arguments.steps) for v, run in runs.items()]
    side_by_side.report("loss_curves", title(arguments), rows, *where)
    rows = [
        row_of_pair(pair.label, runs[pair.one], runs[pair.other], arguments.steps)
        for pair in pairs_among(runs)
    ]
    if rows:
        heading = "Largest difference of losses, as a share; differences at the end"
        side_by_side.report("loss_curves_differences", heading, rows, *where)
    write_losses(runs, arguments.output_dir / "loss_curves_steps.csv")


def pairs_among(runs: dict[str, Run]) -> list[Pair]:
    """Return the pairs of which both were trained."""
    return [pair for pair in PAIRS if {pair.one, pair.other} <= runs.keys()]


def row_of_run(variant: str, run: Run, steps: int) -> dict:
    """Return a row of the table of variants: "" where it was not trained so far."""
    last = min(LAST, steps)
    loss = error = ""
    if run.test_error is not None:
        loss, error = f"{run.losses[-last:].mean():.4f}", f"{run.test_error:.2f}"
    label = side_by_side.LABELS[variant]
    return {"variant": label, f"mean loss, last {last}": loss, "test error, %": error}


def row_of_pair(label: str, one: Run, other: Run, steps: int) -> dict:
    """Return a row of the table of pairs: "" where one was not trained so far."""
    relative = np.abs(relative_difference(one, other))
    row = {"variant": label}
    for first in (first for first in FIRST if first <= steps):
        name = "first step" if first == 1 else f"first {first}"
        reached = first <= len(relative)
        row[name] = f"{relative[:first].max():.1e}" if reached else ""
    last = min(LAST, steps)
    loss = error = ""
    if one.test_error is not None and other.test_error is not None:
        loss = f"{difference(one, other)[-last:].mean():+.4f}"
        error = f"{one.test_error - other.test_error:+.2f}"
    return row | {f"mean loss, last {last}": loss, "test error, points": error}


def difference(one: Run, other: Run) -> np.ndarray:
    """Return how much higher the first's losses are, as long as both were trained."""
    steps = min(len(one.losses), len(other.losses))
    return one.losses[:steps] - other.losses[:steps]


def relative_difference(one: Run, other: Run) -> np.ndarray:
    """Return the same as a share of the second's losses."""
    apart = difference(one, other)
    return apart / other.losses[: len(apart)]


def write_losses(runs: dict[str, Run], path: Path) -> None:
    """Write the loss of each step of each variant; the machine is in the first row."""
    names = [side_by_side.LABELS[variant] for variant in runs]
    columns = [[f"{loss:.9g}" for loss in run.losses] for run in runs.values()]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", *names, "machine"])
        for step, losses in enumerate(itertools.zip_longest(*columns), 1):
            machine = side_by_side.machine() if step == 1 else ""
            writer.writerow([step, *losses, machine])


# --- picture ---------------------------------------------------------------------


def draw(runs: dict[str, Run], heading: str, path: Path) -> None:
    """Draw the losses of both, and how far apart each pair is from step 1 and on."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (losses, relative, smooth) = pyplot.subplots(
        3, figsize=(8, 9.6), height_ratios=(4, 3, 3), layout="constrained"
    )
    draw_losses(losses, runs, heading)
    draw_beginning(relative, runs)
    draw_differences(smooth, runs)
    smooth.sharex(losses)
    for axes in (losses, relative, smooth):
        axes.grid(alpha=0.3)
        axes.set_xlabel("step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def smoothed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, and for each the mean of the values up to it."""
    many = min(SMOOTHED, len(values))
    means = np.convolve(values, np.full(many, 1 / many), "valid")
    return np.arange(many, len(values) + 1), means


def draw_losses(axes: Any, runs: dict[str, Run], heading: str) -> None:
    """Draw each step's loss pale, and the mean of the last ones bold."""
    for variant, color, line in LOSSES:
        if variant not in runs:
            continue
        values = runs[variant].losses
        steps = np.arange(1, len(values) + 1)
        axes.plot(steps, values, color=color, alpha=0.25, lw=0.6)
        label = side_by_side.LABELS[variant]
        axes.plot(*smoothed(values), line, color=color, lw=2, label=label)
    axes.set_title(heading, fontsize=11)
    axes.set_ylabel("loss")
    axes.legend(title=f"Mean of {SMOOTHED} steps. Pale: each step", fontsize=9)


def draw_beginning(axes: Any, runs: dict[str, Run]) -> None:
    """Draw the largest relative difference of two losses so far, from rounding on."""
    for pair in pairs_among(runs):
        relative = relative_difference(runs[pair.one], runs[pair.other])
        largest = np.maximum.accumulate(np.abs(relative))
        steps = np.arange(1, len(largest) + 1)
        above = largest > 0  # a logarithm has no place for 0
        style = {"color": pair.color, "ls": pair.line, "label": pair.label}
        axes.plot(steps[above], largest[above], **style)
    axes.set(xscale="log", yscale="log", ylabel="share of the loss")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_title("Largest difference of two losses of one step so far", fontsize=11)
    axes.legend(fontsize=9, loc="lower right")


def draw_differences(axes: Any, runs: dict[str, Run]) -> None:
    """Draw how far apart the smoothed losses of each pair are."""
    for pair in pairs_among(runs):
        apart = smoothed(difference(runs[pair.one], runs[pair.other]))
        axes.plot(*apart, color=pair.color, ls=pair.line)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_title(f"Difference of the losses, mean of {SMOOTHED} steps", fontsize=11)
    axes.set_ylabel("difference")


if __name__ == "__main__":
    main()
