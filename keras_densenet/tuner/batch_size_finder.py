"""The largest batch size that trains: the search, and its trials."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import psutil

from keras_densenet.errors import MisconfigurationError

POLL_SECONDS = 0.02  # between looks at a trial's memory
LAST_CHARACTERS = 2000  # of the output of a trial that died without a word
ANSWER, TASK = "answer.pkl", "task.pkl"


@dataclass(frozen=True)
class Answer:
    """What a trial says at its end.

    Attributes:
        fits: Whether it took its steps; False where memory ran out.
        gpu_bytes: The most that TensorFlow held on the GPU, or None without one.
        error: What else it raised.
    """

    fits: bool
    gpu_bytes: int | None = None
    error: Exception | None = None


def largest_fitting(
    fits: Callable[[int], bool],
    mode: str,
    init_val: int,
    highest: int,
    max_trials: int,
) -> int:
    """Search for the largest batch size that fits.

    It is doubled until one does not fit, or halved until one does where `init_val` does
    not. "power" ends there; "binsearch" halves what lies between the two.

    Args:
        fits: Tries a batch size.
        mode: "power" or "binsearch".
        init_val: The first to try, 1..`highest`.
        highest: None above it is tried.
        max_trials: Number of sizes to try.

    Returns:
        The largest that was seen to fit, or 0.

    Examples:
        >>> largest_fitting(lambda size: size <= 100, "power", 2, 8192, 25)
        64
        >>> largest_fitting(lambda size: size <= 100, "binsearch", 2, 8192, 25)
        100
    """
    advance = _next_power if mode == "power" else _next_binary
    fitting, failing, size = 0, None, init_val
    for _ in range(max_trials):
        if fits(size):
            fitting = size
        else:
            failing = size
        size = advance(fitting, failing, highest)
        if not size:
            break
    return fitting


def _next_power(fitting: int, failing: int | None, highest: int) -> int:
    """Return the next size to try, 0 for none."""
    if failing is None:
        return 2 * fitting if 2 * fitting <= highest else 0
    return 0 if fitting else failing // 2


def _next_binary(fitting: int, failing: int | None, highest: int) -> int:
    """Return the next size to try, 0 for none."""
    if failing is None:
        return min(2 * fitting, highest) if fitting < highest else 0
    return (fitting + failing) // 2 if failing - fitting > 1 else 0


class Trials:
    """Trains a few steps at a batch size, each time in a process of its own.

    TensorFlow does not give memory back, and a process that the machine's memory is too
    small for cannot be stopped from within: so a trial is watched from outside.

    Args:
        task: What `batch_size_trial` trains, by name.
        memory_bytes: A trial that has more resident memory is killed: it does not fit.
        say: Called with a line to print about each.

    Raises:
        MisconfigurationError: The task cannot be sent to another process.
    """

    def __init__(
        self, task: dict[str, Any], memory_bytes: float, say: Callable[[str], None]
    ) -> None:
        self.memory_bytes = memory_bytes
        self._say = say
        # By value where another process cannot import it: what a script or a notebook
        # defines. multiprocessing would run the whole script again for it.
        try:
            self._task = cloudpickle.dumps(task)
        except Exception as error:
            raise MisconfigurationError(
                "Each batch size is tried in a process of its own, and the module or "
                f"the data module cannot be sent there ({error}). Make what cannot be "
                "pickled, such as a lock or a tf.data.Dataset, in setup() or in the "
                "network's function."
            ) from error

    def fits(self, batch_size: int) -> bool:
        """Return whether a batch size trains.

        Raises:
            Exception: What the trial raised, unless its memory ran out.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / TASK).write_bytes(self._task)
            process = _start(folder, batch_size)
            peak = _watch(process, self.memory_bytes)
            answer = self._answer(folder, process.returncode, peak)
        if answer.error is not None:
            raise answer.error
        self._say(f"Batch size {batch_size} {self._described(answer, peak)}")
        return answer.fits

    def _answer(self, folder: Path, code: int, peak: int) -> Answer:
        if peak > self.memory_bytes:
            return Answer(fits=False)
        with suppress(FileNotFoundError):
            return cloudpickle.loads((folder / ANSWER).read_bytes())
        if code == -signal.SIGKILL:  # the system's, out of memory before we saw it
            return Answer(fits=False)
        output = (folder / "output.txt").read_text(errors="replace")
        raise RuntimeError(
            f"A trial ended with exit code {code} and no answer. The end of what it "
            f"printed:\n{output[-LAST_CHARACTERS:]}"
        )

    def _described(self, answer: Answer, peak: int) -> str:
        if answer.fits:
            return f"fits: {(answer.gpu_bytes or peak) / 1e6:,.0f} MB"
        if peak > self.memory_bytes:
            return f"does not fit: more than {self.memory_bytes / 1e6:,.0f} MB"
        return "does not fit: out of memory"


def _start(folder: Path, batch_size: int) -> subprocess.Popen:
    """Start `batch_size_trial`, which can import all that this process can."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    module = "keras_densenet.tuner.batch_size_trial"
    with (folder / "output.txt").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, os.fspath(folder), str(batch_size)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _watch(process: subprocess.Popen, memory_bytes: float) -> int:
    """Wait for a process, killing it above `memory_bytes`; return the most it had.

    Not by `RLIMIT_AS`, which counts addresses: TensorFlow and CUDA take many times the
    memory. Nor by `getrusage`, whose peak begins with that of the parent.
    """
    peak = 0
    try:
        watched = psutil.Process(process.pid)
        while process.poll() is None and peak <= memory_bytes:
            with suppress(psutil.NoSuchProcess):  # it has just ended
                peak = max(peak, watched.memory_info().rss)
            time.sleep(POLL_SECONDS)
    finally:
        process.kill()
        process.wait()
    return peak
