"""Start processes, let them take steps in turn, and write down what they measure.

Each variant is a process of its own, so that its memory is its own and a peer's library
need not be in our environment. `worker.py` describes how they talk.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_densenet import processor

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TORCH_PYTHON = HERE.parent / ".venv-torch/bin/python"

# Variant: what a reader calls it.
LABELS = {
    "plain": "ours, memory_efficient=False",
    "true": "ours, memory_efficient=True",
    "full": 'ours, memory_efficient="full"',
    "recompute_grad": "ours, tf.recompute_grad a layer",
    "keras": "Keras functional, Keras BN",
    "keras_default": "the same, TensorFlow's default oneDNN",
    "applications": "blocks of keras.applications",
    "torch": "PyTorch channels_last",
    "torch_compile": "PyTorch, torch.compile",
    "torch_checkpoint": "PyTorch, checkpointed bottlenecks",
    "torch_monai": "MONAI, channels_last",
    "trainer_plain": "Trainer.fit, memory_efficient=False",
    "trainer_true": "Trainer.fit, memory_efficient=True",
    "trainer_full": 'Trainer.fit, memory_efficient="full"',
    "cifar_ours": "CIFAR: kd.data.CIFAR10",
    "cifar_plain": "CIFAR: tf.data, a picture at a time",
    "cifar_torch": "CIFAR: PIL and PyTorch's DataLoader",
    "jpeg_ours": "JPEG: kd.data.ImageFolder",
    "jpeg_plain": "JPEG: tf.data, a picture at a time",
    "jpeg_torch": "JPEG: PIL and PyTorch's DataLoader",
    "served_ours": "our SavedModel, TensorFlow",
    "served_ours_bfloat16": "our SavedModel in bfloat16, TensorFlow",
    "served_applications": "keras.applications' SavedModel, TensorFlow",
    "served_openvino": "our SavedModel, OpenVINO in float32",
    "served_openvino_default": "our SavedModel, OpenVINO as it comes",
    "served_onnx": "our ONNX file, ONNX Runtime",
    "served_litert": "our LiteRT file, LiteRT",
    "served_torch": "PyTorch, channels last, eager",
    "losses_torch": "PyTorch",
    "losses_torch_perturbed": "PyTorch, weights 1e-7 off",
    "losses_torch_channels_first": "PyTorch, channels first",
    "losses_plain": "ours, memory_efficient=False",
    "losses_full": 'ours, memory_efficient="full"',
}
LABELS |= {
    f"{variant}_bf16": f"{LABELS[variant]}, bf16-mixed"
    for variant in ("keras", "plain", "true", "full", "torch")
}


class Worker:
    """A process that has taken its first step.

    Attributes:
        first: What it reported of that: `imported_s`, `first_step_s`, `versions`.
    """

    def __init__(self, variant: str, **options: Any) -> None:
        kind = _kind(variant)
        python = str(TORCH_PYTHON) if _is_torch(variant) else sys.executable
        flags = [f"--{name.replace('_', '-')}={v}" for name, v in options.items()]
        self._process = subprocess.Popen(
            [python, str(HERE / f"{kind}_worker.py"), variant, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.variant = variant
        self.first = self._answer()

    def take(self, steps: int) -> dict:
        """Take some steps, and return their `seconds` and the `peak_mb` so far."""
        print(steps, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            command = " ".join(map(str, self._process.args))
            raise SystemExit(
                f"A worker ended with code {code}. To see why, run {command}"
            )
        return json.loads(line)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def _kind(variant: str) -> str:
    """Return the kind of worker that runs a variant, as in `<kind>_worker.py`."""
    first, *others = variant.split("_")
    if first == "served":
        return "torch_served" if "torch" in others else "served"
    if first in ("cifar", "jpeg"):
        return "torch_input" if "torch" in others else "keras_input"
    if first == "losses":
        return "torch_losses" if "torch" in others else "keras_losses"
    return first if first in ("torch", "trainer") else "keras"


def _is_torch(variant: str) -> bool:
    return "torch" in variant.split("_")


@contextmanager
def worker(variant: str, **options: Any) -> Iterator[Worker]:
    """Start a worker, and end it after the `with` block."""
    process = Worker(variant, **options)
    try:
        yield process
    finally:
        process.end()


def parser(
    about: str, variants: list[str], default: list[str] | None = None
) -> argparse.ArgumentParser:
    """Make a parser with the options that all measurements have.

    Args:
        about: The program's docstring, whose first line is shown.
        variants: The variants that can be measured.
        default: The variants that are measured without `--variants`; None for all.
    """
    options = argparse.ArgumentParser(description=about.splitlines()[0])
    options.add_argument(
        "--variants", nargs="+", default=default or variants, choices=variants
    )
    options.add_argument("--growth-rate", type=int, default=12)
    options.add_argument(
        "--output-dir", type=Path, default=RESULTS, help="where the results are written"
    )
    return options


def sides(arguments: argparse.Namespace) -> str:
    """Return the size of a picture, such as "32x32", of a volume "64x64x64"."""
    return "x".join([str(arguments.image_size)] * arguments.rank)


def available(variants: Iterable[str]) -> list[str]:
    """Return the variants, without PyTorch's if it is not installed, and say so."""
    variants = list(variants)
    missing = [v for v in variants if _is_torch(v)]
    if not missing or TORCH_PYTHON.exists():
        return variants
    print(f"Left out: {', '.join(missing)}. `make benchmark-setup` installs PyTorch.")
    return [v for v in variants if v not in missing]


def machine() -> str:
    """Return the processor's name and vectors, the number of cores, and the memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    vectors = f"{processor.vector_lanes()} lanes, {', '.join(_vector_flags())}"
    cores = f"{os.cpu_count()} cores, {memory:.0f} GB"
    return f"{processor.name()} ({vectors}), {cores}"


def _vector_flags() -> list[str]:
    """Return what the processor has of the instructions that speed depends on."""
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
    return [flag for flag in known if flag in processor.flags()]


def report(
    name: str, title: str, rows: list[dict], versions: dict, folder: Path
) -> None:
    """Print the rows as a table, and write them with the machine to a CSV file."""
    about = f"{machine()}; " + ", ".join(f"{k} {v}" for k, v in versions.items())
    table = Table(title=title, caption=about)
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "variant" else "right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console(width=100).print(table)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "machine"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "machine": about} for row in rows)


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
