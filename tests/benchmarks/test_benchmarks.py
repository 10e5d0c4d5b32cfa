"""Each benchmark still runs, in its smallest form; what is measured does not matter."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_densenet import processor

ROOT = Path(__file__).parents[2]
NETWORK = "--depth 10 --growth-rate 4"
TRAINED = "keras plain true full recompute_grad keras_default applications"
SERVED = (
    "served_ours served_ours_bfloat16 served_applications served_onnx served_litert"
)

pytestmark = pytest.mark.slow


def run(name, options, folder):
    script = ROOT / "benchmarks" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, script, *options.split(), "--output-dir", folder],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "options", "result", "rows"),
    [
        (
            "train_speed",
            f"{NETWORK} --batch-size 8 --rounds 1 --variants {TRAINED}",
            "train_speed_peers_10_4",
            7,
        ),
        (
            "first_step",
            f"{NETWORK} --rounds 1 --variants keras trainer_plain trainer_full",
            "first_step_10_4",
            3,
        ),
        (
            "memory",
            "--depths 10 16 --growth-rate 4 --points 2 --variants full "
            "--batch-sizes full=8,256",
            "memory_10_16_4_32",
            1,
        ),
        (
            "memory",
            "--depths 10 --growth-rate 4 --rank 3 --image-size 16 --variants full "
            "--batch-sizes full=1,8",
            "memory_10_4_16x16x16",
            1,
        ),
        (
            "memory",
            "--network fc_densenet --depths 56 --growth-rate 2 --peak-of tensors "
            "--variants plain full --batch-sizes plain=1,3 full=1,3",
            "memory_tensors_fc_56_2_32",
            2,
        ),
        (
            "memory",
            "--depths 10 --growth-rate 4 --peak-of tensors --variants keras full "
            "--batch-sizes keras=8,32 full=8,32",
            "memory_tensors_10_4_32",
            2,
        ),
        (
            "train_speed",
            f"{NETWORK} --batch-size 8 --rank 1 --rounds 1 --variants keras full",
            "train_speed_peers_10_4_32",
            2,
        ),
        (
            "train_speed",
            f"{NETWORK} --batch-size 8 --rounds 1 --name bf16 "
            "--variants keras_bf16 plain_bf16",
            "train_speed_bf16_10_4",
            2,
        ),
        (
            "wrapper_overhead",
            f"{NETWORK} --batch-size 8 --steps 3 --rounds 1",
            "wrapper_overhead",
            2,
        ),
        (
            "input_pipeline",
            "--rounds 1 --share 0.01 --variants cifar_ours cifar_plain "
            "jpeg_ours jpeg_plain",
            "input_pipeline",
            4,
        ),
        (
            "inference",
            "--networks bc_100_12 --batch-sizes 1 --rounds 1 --variants " + SERVED,
            "inference_bc_100_12_1",
            5,
        ),
    ],
)
def test_a_benchmark_writes_its_table(tmp_path, name, options, result, rows):
    run(name, options, tmp_path)
    written = rows_of(tmp_path / f"{result}.csv")
    assert len(written) == rows
    numbers = [v for row in written for v in row.values() if re.fullmatch(r"[\d.]+", v)]
    assert all(float(number) > 0 for number in numbers)
    machine = f"{processor.name()} ({processor.vector_lanes()} lanes"
    assert all(row["machine"].startswith(machine) for row in written)


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs CIFAR-10")
def test_fine_tuning_says_an_error_for_each_way(tmp_path):
    options = "--fast-dev-run --max-epochs 1 --seeds 1"
    options += f" --data-dir {os.environ['TFDS_DATA_DIR']}"
    errors = re.findall(
        r"^(.+): ([\d.]+) % test error \(mean",
        run("fine_tuning", options, tmp_path),
        re.M,
    )
    assert [way for way, _ in errors] == [
        "fine-tuned",
        "classifier alone",
        "from scratch",
        "from scratch, 5 times the epochs",
    ]
    assert all(0 <= float(error) <= 100 for _, error in errors)


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs CIFAR-10")
def test_losses_begin_alike_and_are_kept(tmp_path):
    options = f"{NETWORK} --batch-size 8 --steps 3 --folder kept --picture curves.png"
    run("loss_curves", options, tmp_path)
    rows = rows_of(tmp_path / "loss_curves_steps.csv")
    assert [row.pop("step") for row in rows] == ["1", "2", "3"]
    assert processor.name() in rows[0].pop("machine")
    del rows[1]["machine"], rows[2]["machine"]
    # The first losses are equal but for rounding, which grows with each step. PyTorch's
    # are there, too, where `make benchmark-setup` has installed it.
    for row, tolerance in zip(rows, (1e-6, 1e-3, 1e-3), strict=True):
        one, *others = map(float, row.values())
        assert others == pytest.approx([one] * len(others), rel=tolerance)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = run("loss_curves", options, tmp_path)
    assert again.count("was trained before") == len(rows[0])


def test_differences_of_losses_by_hand(tmp_path):
    for variant, losses, error in (
        ("losses_plain", [2.0, 1.0], 50.0),
        ("losses_full", [2.2, 0.7], 49.5),
    ):
        kept = {"losses": losses, "test_error": error, "versions": {}}
        (tmp_path / f"{variant}.json").write_text(json.dumps(kept))
    (tmp_path / "weights.pth").touch()  # the batches were written
    options = "--steps 2 --variants losses_plain losses_full"
    run("loss_curves", f"{options} --folder . --picture curves.png", tmp_path)
    (row,) = rows_of(tmp_path / "loss_curves_differences.csv")
    assert row["first step"] == "1.0e-01"
    assert row["mean loss, last 2"] == "-0.0500"  # (2.2 - 2.0 + 0.7 - 1.0) / 2
    assert row["test error, points"] == "-0.50"
    plain, full = rows_of(tmp_path / "loss_curves.csv")
    assert (plain["mean loss, last 2"], full["mean loss, last 2"]) == (
        "1.5000",
        "1.4500",
    )
