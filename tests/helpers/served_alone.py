"""Asks a served version in a process that has NumPy and TensorFlow's C library alone.

Neither this package nor Keras nor TensorFlow's Python can be imported there: see `ask`.
"""

import json
import pickle
import shutil
import subprocess
import sys

import c_api
import numpy as np

from keras_densenet.export.golden import difference, golden_requests, rows_of

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
    """Return the answers to each `(signature, feeds)`, and the peak memory after it.

    An error is returned as its text; memory is in MB.
    """
    folder.mkdir(exist_ok=True)
    shutil.copy(c_api.__file__, folder / "c_api.py")
    (folder / "requests").write_bytes(pickle.dumps(requests))
    paths = folder, version, folder / "requests", folder / "answers"
    command = [sys.executable, "-I", "-c", SCRIPT, *map(str, paths)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return pickle.loads((folder / "answers").read_bytes())


def golden_differences(version, folder):
    """Return how far the answer of each signature is from the golden one."""
    facts = json.loads((version / "assets.extra" / "export.json").read_bytes())
    signatures = facts["signatures"]
    signatures["serving_default"] = signatures["serve"]
    golden = golden_requests(version)
    asked = []
    for name, (request, _) in golden.items():
        (takes,) = signatures[name]["inputs"].items()
        kind = object if takes[1]["dtype"] == "string" else takes[1]["dtype"]
        asked.append((name, {takes[0]: np.array(rows_of(request), kind)}))
    answers, _ = ask(version, asked, folder)
    return {
        name: difference(expected, answer)
        for (name, (_, expected)), answer in zip(golden.items(), answers, strict=True)
    }
