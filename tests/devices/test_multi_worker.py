"""Two workers on one machine train as one process does, and go on when one was lost."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from free_ports import free_ports
from one_worker import train

import keras_densenet as kd
from keras_densenet.devices import cluster
from keras_densenet.training import MisconfigurationError, WorkerLostError

SCRIPT = Path(__file__).parents[1] / "helpers" / "one_worker.py"
TIMEOUT = 240  # seconds, of which most are TensorFlow's start on a busy machine
CLUSTER = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker"}}


class Workers:
    """Two processes that train together; none is left behind.

    Args:
        *arguments: Of tests/helpers/one_worker.py.
        last: Arguments of the last worker alone.
    """

    def __init__(self, *arguments, last=()):
        hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
        self.processes = []
        for index in range(2):
            config = {
                "cluster": {"worker": hosts},
                "task": {"type": "worker", "index": index},
            }
            more = last if index else ()
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), *map(str, (*arguments, *more))],
                    env={
                        **os.environ,
                        "TF_CONFIG": json.dumps(config),
                        "TF_CPP_MIN_LOG_LEVEL": "3",
                    },
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
            process.communicate()

    def ended(self, timeout=TIMEOUT):
        """Wait for both; give their exit codes and what they printed."""
        until = time.monotonic() + timeout
        printed = [
            process.communicate(timeout=until - time.monotonic())[0]
            for process in self.processes
        ]
        return [process.returncode for process in self.processes], printed


def assert_well(workers, timeout=TIMEOUT):
    codes, printed = workers.ended(timeout)
    assert codes == [0, 0], "\n".join(printed)
    return printed


def seen(folder, network="linear"):
    """Give the facts and the weights of both workers."""
    facts, weights = [], []
    for rank in range(2):
        path = folder / network / f"worker-{rank}"
        facts.append(json.loads(path.with_suffix(".json").read_text()))
        with np.load(path.with_suffix(".npz")) as arrays:
            weights.append(list(arrays.values()))
    return facts, weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Five networks, trained one after the other by the same two processes."""
    folder = tmp_path_factory.mktemp("whole")
    networks = ("linear", "synchronized", "densenet", "clipped", "scaled")
    with Workers(folder, *networks) as workers:
        return folder, assert_well(workers, 2 * TIMEOUT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "alone", "rtol"),
    [
        ("linear", {"strategy": "none"}, 1e-5),
        ("synchronized", {"strategy": "none"}, 1e-9),
        # A batch norm of one worker sees what that of one of two replicas sees.
        ("densenet", {"strategy": "mirrored", "devices": 2}, 1e-9),
        ("clipped", {"strategy": "none"}, 1e-9),
        ("scaled", {"strategy": "none"}, 1e-2),
    ],
)
def test_two_workers_train_as_one_process(whole, tmp_path, network, alone, rtol):
    (first, second), (weights, others) = seen(whole[0], network)
    assert (first["devices"], first["rank"], second["rank"]) == (2, 0, 1)
    for key in ("history", "test"):
        assert second[key] == first[key]
    for one, other in zip(weights, others, strict=True):  # moving statistics, too
        np.testing.assert_array_equal(other, one)
    _, model, expected = train(tmp_path, network, **alone)
    for name, values in expected["history"].items():
        assert_close(name, first["history"][name], values, rtol)
    for name, value in expected["test"].items():
        assert_close(name, first["test"][name], value, rtol)
    if network == "linear":  # batch norms of few pictures make much of rounding
        for one, value in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_allclose(one, value, rtol=1e-5, atol=1e-6)


def assert_close(name, values, expected, rtol):
    """Compare; rounding may turn the answer for two pictures of a hundred."""
    pictures = 0.02 if "accuracy" in name else 0.0
    np.testing.assert_allclose(values, expected, rtol=rtol, atol=pictures)


def assert_one_set_of_files(folder, network, facts):
    (run,) = (folder / network / "runs").glob("*/*")
    assert run.name == "version_0"
    assert {fact["log_dir"] for fact in facts} == {str(run)}
    with (run / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    best = Path(facts[0]["best"])
    files = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert files == ["before-last.keras", best.name, "last.keras"]
    assert facts[1]["last"] == facts[0]["last"] == str(run / "checkpoints/last.keras")
    assert facts[1]["best"] == facts[0]["best"]
    assert len(list((run / "train").iterdir())) == 1


@pytest.mark.slow
def test_the_first_worker_alone_writes_and_prints(whole):
    folder, (first, second) = whole
    facts, _ = seen(folder)
    assert_one_set_of_files(folder, "linear", facts)
    served = folder / "linear" / "served"
    assert {fact["served"] for fact in facts} == {str(served / "1")}
    assert [path.name for path in served.iterdir()] == ["1"]
    assert "Epoch   3/3" in first
    assert "Epoch" not in second


@pytest.mark.slow
def test_what_several_workers_cannot_do_is_refused(whole):
    for fact in seen(whole[0])[0]:
        assert "in one process" in fact["predict"]
        assert fact["report"] is None  # it prints what writes one
        assert len(fact["flags"]) == 3
        for flag, why in fact["flags"].items():
            assert flag in why


@pytest.mark.slow
def test_what_is_saved_is_a_plain_keras_model(whole):
    facts, (weights, _) = seen(whole[0], "densenet")
    model = keras.saving.load_model(facts[0]["last"])
    for value, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.slow
def test_a_lost_worker_ends_the_others_and_all_go_on(whole, tmp_path):
    """The second worker is killed within an epoch, two steps after a checkpoint."""
    begun = time.monotonic()
    with Workers(tmp_path, last=("--end-at", 7)) as workers:
        codes, printed = workers.ended()
    assert codes == [1, -signal.SIGKILL], "\n".join(printed)
    assert "WorkerLostError" in printed[0]
    assert "ckpt_path='last'" in printed[0]
    assert time.monotonic() - begun < TIMEOUT / 2
    with Workers(tmp_path, "--resume") as workers:
        assert_well(workers)
    (expected, _), (expected_weights, _) = seen(whole[0])
    facts, weights = seen(tmp_path)
    for fact, mine in zip(facts, weights, strict=True):
        for name, values in fact["history"].items():  # of the last two epochs
            whole_values = expected["history"][name][1:]
            np.testing.assert_allclose(values, whole_values, rtol=1e-5)
        for one, value in zip(mine, expected_weights, strict=True):
            np.testing.assert_allclose(one, value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_signal_ends_a_worker_without_saving(tmp_path):
    """A worker cannot save alone; the other one then loses it."""
    with Workers(tmp_path, last=("--end-at", 7, "--number", 15)) as workers:
        codes, printed = workers.ended()
    assert codes == [1, 143], "\n".join(printed)
    assert "SIGTERM: ending" in printed[1]
    assert "checkpoints/last.keras" in printed[1]
    assert "WorkerLostError" in printed[0]


# --- what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "flags", "words"),
    [
        (None, {}, ["TF_CONFIG", '"index": 1']),
        ("{worker: a}", {}, ["JSON", "{worker: a}", '"cluster"']),
        (json.dumps({"cluster": {}}), {}, ["task", '"cluster"']),
        (json.dumps(CLUSTER), {}, ["index"]),
        ({"type": "ps", "index": 0}, {}, ["one of them"]),
        ({"type": "worker", "index": 2}, {}, ["one of them"]),
        ({"type": "worker", "index": 0}, {"num_nodes": 3}, ["num_nodes=3", "2 work"]),
        ({"type": "worker", "index": 0}, {"devices": 2}, ["devices=2", "CUDA_VISIBLE"]),
        ({"type": "worker", "index": 0}, {"accelerator": "gpu"}, ["0 GPUs"]),
        # This process has computed already.
        ({"type": "worker", "index": 0}, {}, ["Make the Trainer first"]),
        ({"type": "worker", "index": 0}, {"strategy": "none"}, ["num_nodes=1"]),
        (None, {"strategy": "auto"}, ["TF_CONFIG"]),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(monkeypatch, config, flags, words):
    if isinstance(config, dict):
        config = json.dumps({**CLUSTER, "task": config})
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    chosen = {"strategy": "multi_worker_mirrored", **flags}
    if "strategy" in flags:
        chosen["num_nodes"] = 2
    keras.ops.zeros(1)
    with pytest.raises(MisconfigurationError) as error:
        kd.Trainer(1, **chosen)
    for word in words:
        assert word in str(error.value)


def test_the_first_worker_does_not_wait_forever(monkeypatch):
    monkeypatch.setattr(cluster, "_WAIT_FOR_ALL", 0.1)
    (port,) = free_ports(1)
    absent = f"127.0.0.1:{port}"
    workers = {"worker": ["127.0.0.1:1", absent]}
    with pytest.raises(WorkerLostError, match=absent):
        cluster._await_others(cluster.Cluster(workers, "worker", 0))


def test_the_chief_is_the_first_worker():
    workers = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    ranks = [
        cluster.Cluster(workers, job, index).rank
        for job, index in (("chief", 0), ("worker", 0), ("worker", 1))
    ]
    assert ranks == [0, 1, 2]
    assert cluster.Cluster(workers, "worker", 1).size == 3
