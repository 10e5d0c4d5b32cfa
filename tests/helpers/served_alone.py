"""Asks a served version in a process that has NumPy and TensorFlow's C library alone.

Neither this package nor Keras nor TensorFlow's Python can be imported there: see `ask`.
"""

import pickle
import shutil
import subprocess
import sys

from keras_densenet.export import c_api

SCRIPT = """
import pathlib, pickle, sys
for name in ("keras_densenet", "keras", "tensorflow.python"):
    sys.modules[name] = None  # importing it fails
sys.path.append(sys.argv[1])
import c_api

session = c_api.Session(sys.argv[2])
with open(sys.argv[3], "rb") as file:
    requests = pickle.load(file)
answers, peaks = [], []
for signature, feeds in requests:
    try:
        answers.append(session.run(signature, feeds))
    except (c_api.RequestError, KeyError) as error:
        answers.append(str(error))
    status = pathlib.Path("/proc/self/status").read_text()
    peaks.append(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
with open(sys.argv[4], "wb") as file:
    pickle.dump((answers, peaks), file)
"""


def ask(version, requests, folder):
    """Give the answer to each `(signature, feeds)`, and the peak memory after it in MB.

    An error is given as its text.
    """
    folder.mkdir(exist_ok=True)
    shutil.copy(c_api.__file__, folder / "c_api.py")
    (folder / "requests").write_bytes(pickle.dumps(requests))
    paths = folder, version, folder / "requests", folder / "answers"
    command = [sys.executable, "-I", "-c", SCRIPT, *map(str, paths)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return pickle.loads((folder / "answers").read_bytes())
