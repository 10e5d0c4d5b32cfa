"""The memory of live tensors, from TensorFlow's log of what it allocates.

A process's resident set has more in it: what the libraries need, and chunks that an
allocator keeps for the next tensor of about that size. What a GPU needs is closer to
the tensors.
"""

import os
import re
import tempfile
from typing import TextIO

_EVENT = re.compile(r"MemoryLogTensor(Allocation|Deallocation) .*allocation_id: (\d+)")
_BYTES = re.compile(r"requested_bytes: (\d+)")


def begin_log() -> TextIO:
    """Send this process's errors to a file, and TensorFlow's log of tensors with them.

    It has an effect before TensorFlow is imported only. The file has no name, and goes
    with the process.
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "log_memory=2"}
    # To append, so that reading it does not move where the next line goes.
    log = tempfile.TemporaryFile("a+", errors="replace")  # noqa: SIM115, kept open
    os.dup2(log.fileno(), 2)
    return log


def peak_mb(log: TextIO) -> float:
    """Return the largest sum of the live tensors' bytes, in MB of 2^20."""
    live: dict[str, int] = {}
    total = peak = 0
    log.seek(0)
    for line in log:
        event = _EVENT.search(line)
        if not event:
            continue
        kind, number = event.groups()
        if kind == "Deallocation":
            total -= live.pop(number, 0)
        elif number not in live:  # else a tensor that shares memory
            size = _BYTES.search(line)
            live[number] = int(size[1]) if size else 0
            total += live[number]
            peak = max(peak, total)
    return peak / 2**20
