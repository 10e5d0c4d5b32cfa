"""One process that replays the requests of many versions, as `replay.py` does of one.

Each run of `replay.py` takes seconds of which nearly all are TensorFlow's import. Like
it this process can import neither this package nor Keras. `tests/export/test_replay.py`
runs `replay.py` itself.

    python -I replaying.py PATH_OF_REPLAY
"""

import contextlib
import json
import runpy
import subprocess
import sys
from pathlib import Path


class Replaying:
    """Stands for `keras_densenet.export.verification.replay`."""

    def __init__(self, script):
        self.script = script
        self.process = None

    def __call__(self, folder):
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-I", __file__, str(self.script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        print(folder, file=self.process.stdin, flush=True)
        report = self.process.stdout.readline()
        code = 1 if json.loads(report)["errors"] else 0
        return subprocess.CompletedProcess([str(folder)], code, report, "")

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()


def main() -> None:
    """Answer each line, a version's folder, with the report of it."""
    sys.modules |= {"keras_densenet": None, "keras": None}
    check = runpy.run_path(sys.argv[1])["check"]
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            report = check(Path(line.rstrip("\n")))
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
