"""The machines that train together, as the environment's `TF_CONFIG` names them."""

import faulthandler
import functools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf

from keras_densenet.errors import MisconfigurationError, WorkerLostError

_EXAMPLE = (
    'On the first of two machines: TF_CONFIG=\'{"cluster": {"worker": '
    '["10.0.0.1:12345", "10.0.0.2:12345"]}, "task": {"type": "worker", "index": 0}}\'; '
    'on the second the same with "index": 1.'
)
_TOO_LATE = (
    "TensorFlow has begun to compute in this process, and several machines must be "
    "joined before that. Make the Trainer first: before datasets, tensors and models."
)
_JOBS = ("chief", "worker")  # in the order of their ranks
_WAIT_FOR_ALL = 10 * 60  # seconds: machines start one after the other
_HEARTBEAT = 20  # seconds without one, and a worker is lost


@dataclass(frozen=True)
class Cluster:
    """Who trains together.

    Attributes:
        workers: Their addresses, by job, as in `TF_CONFIG`.
        job: This process's.
        index: This process's, in its job.
    """

    workers: dict[str, list[str]]
    job: str
    index: int

    @property
    def size(self) -> int:
        """Number of workers."""
        return sum(len(addresses) for addresses in self.workers.values())

    @property
    def rank(self) -> int:
        """Number of this process among all workers; the first writes the files."""
        before = self.workers.get("chief", []) if self.job == "worker" else []
        return len(before) + self.index


def read_cluster() -> Cluster:
    """Read `TF_CONFIG`.

    Raises:
        MisconfigurationError: It is not there, or names no workers, or not this one.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise MisconfigurationError(
            "Training on several machines needs the environment variable TF_CONFIG on "
            f"each, which names all of them. {_EXAMPLE}"
        )
    try:
        config = json.loads(text)
        workers, task = dict(config["cluster"]), config["task"]
        cluster = Cluster(workers, task["type"], int(task["index"]))
    except (ValueError, KeyError, TypeError) as error:
        raise MisconfigurationError(
            "TF_CONFIG must be JSON with a cluster of workers and a task "
            f"({type(error).__name__}: {error}). {_EXAMPLE} Received: "
            f"TF_CONFIG={text!r}"
        ) from error
    if not set(workers) <= set(_JOBS) or not (
        0 <= cluster.index < len(workers.get(cluster.job, ()))
    ):
        raise MisconfigurationError(
            "TF_CONFIG must name workers (and, if you like, one chief), and its task "
            f"must be one of them. {_EXAMPLE} Received: TF_CONFIG={text!r}"
        )
    return cluster


def cluster_of(strategy: tf.distribute.Strategy | None) -> Cluster | None:
    """Return who trains together under a strategy; None for this process alone."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return None
    resolver = strategy.cluster_resolver
    workers = resolver.cluster_spec().as_dict()
    return Cluster(workers, resolver.task_type, resolver.task_id) if workers else None


def multi_worker_strategy(num_nodes: int) -> tf.distribute.Strategy:
    """Return the strategy of the cluster, and wait until all workers are there.

    Args:
        num_nodes: How many workers there must be; 1 leaves that to `TF_CONFIG`.

    Raises:
        MisconfigurationError: `TF_CONFIG` is wrong, or TensorFlow has begun already.
        WorkerLostError: Not all workers came.
    """
    cluster = read_cluster()
    if num_nodes not in (1, cluster.size):
        raise MisconfigurationError(
            f"num_nodes={num_nodes}, and TF_CONFIG names {cluster.size} worker(s): "
            f"{cluster.workers}. Make them equal."
        )
    return _multi_worker(os.environ["TF_CONFIG"])


@functools.cache
def _multi_worker(tf_config: str) -> tf.distribute.Strategy:
    # One for all trainers of a process: TensorFlow starts one server a process.
    del tf_config  # the cache's key; TensorFlow reads it once more itself
    cluster = read_cluster()
    _heed_lost_workers(cluster)
    if cluster.rank == 0:
        _await_others(cluster)
    try:
        with _end_of_waiting(), _own_signals():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise MisconfigurationError(f"{_TOO_LATE} ({error})") from error
    except tf.errors.OpError as error:
        raise WorkerLostError(
            "This worker could not join the others. Is the same program started on "
            f"each machine that TF_CONFIG names, within {_WAIT_FOR_ALL} s, and is its "
            f"port free there? ({_first_line(error)})"
        ) from error


def _heed_lost_workers(cluster: Cluster) -> None:
    """Choose how long to wait for workers: TensorFlow's choice is an hour.

    It keeps what it finds configured, and has no public way to say this.
    """
    from tensorflow.python.eager import context

    if getattr(context.context(), "_context_handle", None) is not None:
        raise MisconfigurationError(_TOO_LATE)  # before it waits for the others
    jobs = [job for job in _JOBS if job in cluster.workers]
    make_job = context.coordination_config_pb2.CoordinatedJob
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        cluster_register_timeout_in_ms=_WAIT_FOR_ALL * 1000,
        heartbeat_timeout_in_ms=_HEARTBEAT * 1000,
        coordinated_jobs=[
            make_job(name=job, num_tasks=len(cluster.workers[job])) for job in jobs
        ],
    )


def _await_others(cluster: Cluster) -> None:
    """Wait until the other workers listen, which they do before they look for this one.

    TensorFlow's first worker would wait for them forever, and heed no signal.
    """
    until = time.monotonic() + _WAIT_FOR_ALL
    addresses = [address for job in _JOBS for address in cluster.workers.get(job, ())]
    for address in addresses[1:]:
        while not _listens(address):
            if time.monotonic() > until:
                raise WorkerLostError(
                    f"The worker {address} was not there within {_WAIT_FOR_ALL} s: "
                    "start the same program on each machine that TF_CONFIG names, and "
                    "let their ports be open."
                )
            time.sleep(0.5)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def _end_of_waiting() -> Iterator[None]:
    """End the process where a worker was lost while all were joining.

    TensorFlow then waits forever, in a call that no signal and no thread of Python
    interrupts. The process ends with code 1 and the line where it waited.
    """
    seconds = _WAIT_FOR_ALL + _HEARTBEAT
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Take SIGTERM back: TensorFlow would note it here, and the process go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _first_line(error: tf.errors.OpError) -> str:
    return str(error.message).strip().splitlines()[0]
