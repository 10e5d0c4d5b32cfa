"""Every recipe, run as a user runs it, in its smallest form."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = ["--depth", "10", "--growth-rate", "4"]


def run(recipe, *options, cwd, **environment):
    return subprocess.run(
        [sys.executable, ROOT / "recipes" / recipe, *map(str, options)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("recipe", ["cifar10.py", "quickstart.py"])
def test_help_is_given_without_tensorflow(recipe, tmp_path):
    # Importing a package named tensorflow fails here, so help came before it.
    (tmp_path / "tensorflow.py").write_text("raise ImportError('too early')")
    answer = run(recipe, "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert "--max-epochs" in answer.stdout


def test_cifar10_falls_back_to_the_digits_loudly(tmp_path):
    answer = run(
        "cifar10.py",
        *SMALL,
        "--fast-dev-run",
        "--data-dir",
        tmp_path / "none",
        cwd=tmp_path,
        HTTPS_PROXY="http://127.0.0.1:9",  # nothing answers there: no network
        HTTP_PROXY="http://127.0.0.1:9",
    )
    assert answer.returncode == 0, answer.stderr
    assert "This is NOT CIFAR10" in answer.stderr
    last = answer.stdout.strip().splitlines()[-1]
    assert last.startswith("Test error on the digits, NOT CIFAR-10")


def test_cifar10_stops_where_only_cifar10_will_do(tmp_path):
    answer = run(
        "cifar10.py",
        *SMALL,
        *("--data", "cifar10", "--data-dir", tmp_path / "none"),
        cwd=tmp_path,
        HTTPS_PROXY="http://127.0.0.1:9",
        HTTP_PROXY="http://127.0.0.1:9",
    )
    assert answer.returncode == 1
    assert "Three ways out" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_cifar10_trains_exports_and_resumes(tmp_path):
    options = [*SMALL, "--data", "digits", "--batch-size", 128]
    first = run(
        "cifar10.py",
        *options,
        *("--max-epochs", 1, "--no-augment", "--export-dir", "served/digits"),
        cwd=tmp_path,
    )
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "served" / "digits" / "1" / "saved_model.pb").is_file()
    second = run("cifar10.py", *options, "--max-epochs", 2, "--resume", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "Resuming after epoch 1" in second.stdout
    assert "Epoch   2/2" in second.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory-efficient", "all"], "True (recompute"),
        (["--depth", "99", "--data", "digits"], "94 or 100"),
        (["--precision", "fp8", "--data", "digits"], "bf16-mixed"),
    ],
)
def test_a_wrong_option_is_an_error_and_no_traceback(options, words, tmp_path):
    answer = run("cifar10.py", *options, cwd=tmp_path)
    assert answer.returncode != 0
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_quickstart_runs_to_its_end(tmp_path):
    answer = run("quickstart.py", "--fast-dev-run", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "feature_reuse.png").is_file()
    assert re.search(r"says: a \d, with [\d.]+%\. It is a \d\.", answer.stdout)


@pytest.mark.slow
def test_quickstart_reaches_97_percent(tmp_path):
    answer = run("quickstart.py", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    (accuracy,) = re.findall(r"│ accuracy │ ([\d.]+)", answer.stdout)
    assert float(accuracy) >= 0.97


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR names no CIFAR-10"
)
def test_three_epochs_of_real_cifar10_reach_55_percent(tmp_path):
    options = ("--depth", 22, "--max-epochs", 3, "--data", "cifar10")
    answer = run("cifar10.py", *options, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    (error,) = re.findall(r"Test error on CIFAR-10: ([\d.]+) %", answer.stdout)
    assert float(error) < 45.0
