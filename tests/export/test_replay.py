"""The process that checks a version needs nothing of ours, and finds what is wrong."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_densenet.export import replay

SIGNATURES = {"serve", "serving_default", "predict_bytes", "classify", "embed"}

# Imports a module when TensorFlow is imported, as what needs it would.
IMPORTING = """
import importlib.util, runpy, sys
assert importlib.util.find_spec("{name}") is not None  # it is installed

class Importing:
    @staticmethod
    def find_spec(module, path=None, target=None):
        if module == "tensorflow":
            import {name}

sys.meta_path.insert(0, Importing)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("name", ["keras_densenet", "keras"])
def test_the_process_fails_where_it_imports_the_package_or_keras(tmp_path, name):
    script = IMPORTING.format(name=name)
    command = [sys.executable, "-I", "-c", script, replay.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: import of {name} halted")


@pytest.fixture
def version(published, tmp_path):
    return shutil.copytree(published, tmp_path / "1")


@pytest.fixture
def status_and_report(version, monkeypatch, capsys):
    """Return what runs the script in this process, which has TensorFlow already."""

    def run():
        monkeypatch.setattr(sys, "argv", ["replay.py", str(version)])
        with pytest.raises(SystemExit) as status:
            replay.main()
        return status.value.code, json.loads(capsys.readouterr().out)

    return run


def test_a_version_that_holds(status_and_report):
    status, report = status_and_report()
    assert status == 0
    assert report.keys() == {"tensorflow", "differences", "warm_up", "errors"}
    assert report["differences"].keys() == SIGNATURES
    assert (report["warm_up"], report["errors"]) == (4, [])


@pytest.mark.slow
def test_each_signature_must_be_there_and_give_its_golden_answer(
    version, status_and_report
):
    for file in version.glob("assets.extra/golden/*.response.json"):
        response = json.loads(file.read_text())
        if "results" in response:
            response["results"][0][0][1] += 0.01
        else:
            response["predictions"][-1]["logits"][-1] += 0.01
        file.write_text(json.dumps(response))
    for file in version.glob("assets.extra/golden/embed.*"):
        shutil.copy(file, file.with_name(file.name.replace("embed", "unknown")))
    write_warm_up_in_float64(version / replay.WARM_UP)
    status, report = status_and_report()
    assert status == 1
    errors = dict(error.split(": ", 1) for error in report["errors"])
    assert errors.pop("unknown") == "KeyError: 'unknown'"
    warm_up = errors.pop("warm-up of serve")
    assert warm_up == "TypeError: images cannot be float64."
    assert errors.keys() == SIGNATURES
    assert all("It gives other answers, by" in error for error in errors.values())


def write_warm_up_in_float64(file):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = "serve"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 16, 16, 3))))
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(log.SerializeToString())


@pytest.mark.slow
def test_each_signature_must_have_golden_requests(version, status_and_report):
    for file in version.glob("assets.extra/golden/embed.*"):
        file.unlink()
    status, report = status_and_report()
    assert status == 1
    assert report["errors"] == ["There are no golden requests for embed."]


class Anything:
    """Answers each signature."""

    def answer(self, signature, feeds):
        return {}


@pytest.mark.parametrize("damage", ["more", "less", "a bit"])
def test_damaged_warm_up_requests_are_named(version, damage):
    file = version / replay.WARM_UP
    content = bytearray(file.read_bytes())
    if damage == "more":
        content += b"123"
    elif damage == "less":
        del content[-3:]
    else:
        content[60] ^= 1  # a checksum finds it
    file.write_bytes(content)
    errors = []
    replay._replay_warm_up(Anything(), file, errors)
    (error,) = errors
    assert error.startswith("tf_serving_warmup_requests is damaged: ")


def test_without_the_servers_protocol_warm_up_is_left_out(published, monkeypatch):
    module = "tensorflow_serving.apis.prediction_log_pb2"
    monkeypatch.setitem(sys.modules, module, None)
    errors = []
    assert replay._replay_warm_up(None, published / replay.WARM_UP, errors) is None
    assert replay._replay_warm_up(None, published / "none", errors) == 0
    assert errors == []
