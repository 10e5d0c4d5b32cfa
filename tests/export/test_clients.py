"""The clients against doubles of the server's protocols: not against a server."""

import importlib.util
import json
import os
import subprocess
import time
from pathlib import Path

import c_api
import numpy as np
import pytest
import requests
import tensorflow as tf
from free_ports import free_ports
from protocol_double import grpc_double, rest_double

import keras_densenet as kd
from keras_densenet.export.golden import difference, outputs_of

RECIPE = Path(__file__).parents[2] / "recipes" / "ask_server.py"


@pytest.fixture(scope="module")
def ask_server():
    spec = importlib.util.spec_from_file_location("ask_server", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def session(published):
    return c_api.Session(published)


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    (tmp_path / "picture.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return tmp_path / "picture.png"


DOUBLES = {"rest": rest_double, "grpc": grpc_double}


@pytest.mark.parametrize("protocol", DOUBLES)
def test_a_client_gets_classes_and_scores(ask_server, session, picture, protocol):
    ask = getattr(ask_server, f"by_{protocol}")
    file = picture.read_bytes()
    feeds = {"image_bytes": np.array([file, file], object)}
    expected = session.run("predict_bytes", feeds)
    with DOUBLES[protocol](session, "net") as host:
        found = ask([file, file], "net", host)
    for row, answer in enumerate(found):
        assert answer["classes"] == [c.decode() for c in expected["classes"][row]]
        np.testing.assert_allclose(answer["scores"], expected["scores"][row], rtol=1e-6)


@pytest.mark.parametrize("protocol", DOUBLES)
def test_the_command_prints_them_or_the_servers_error(
    ask_server, session, picture, protocol, capsys, tmp_path
):
    flags = ["--grpc"] if protocol == "grpc" else []
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with DOUBLES[protocol](session, "net") as host:
        flags += ["--host", host]
        ask_server.main([str(picture), "--model", "net", *flags])
        printed = capsys.readouterr().out
        assert printed.startswith(f"{picture}: ")
        assert printed.count("%") == 3
        with pytest.raises(SystemExit, match="no JPEG, PNG, GIF or BMP"):
            ask_server.main([str(broken), "--model", "net", *flags])
        with pytest.raises(SystemExit, match="Servable not found"):
            ask_server.main([str(picture), "--model", "other", *flags])
    with pytest.raises(
        SystemExit, match=r"no server answers|failed to connect|refused"
    ):
        ask_server.main([str(picture), "--model", "net", *flags])
    with pytest.raises(SystemExit, match="No such file"):
        ask_server.main([str(tmp_path / "none.png"), "--model", "net", *flags])


SIGNATURES = ("serve", "predict_bytes", "classify", "embed")


def assert_golden_is_answered(version, signature, host):
    golden = version / "assets.extra" / "golden"
    request = (golden / f"{signature}.request.json").read_bytes()
    verb = "classify" if signature == "classify" else "predict"
    url = f"http://{host}/v1/models/net:{verb}"
    answer = requests.post(url, data=request, timeout=10).json()
    expected = json.loads((golden / f"{signature}.response.json").read_bytes())
    found, wanted = outputs_of(answer), outputs_of(expected)
    assert difference(wanted, {k: np.array(v) for k, v in found.items()}) < 1e-5


@pytest.mark.parametrize("signature", SIGNATURES)
def test_golden_requests_can_be_sent_as_they_are(published, session, signature):
    with rest_double(session, "net") as host:
        assert_golden_is_answered(published, signature, host)


@pytest.mark.skipif(
    "TF_SERVING_BIN" not in os.environ,
    reason="TF_SERVING_BIN names no tensorflow_model_server",
)
def test_a_real_server_answers_the_golden_requests(published):
    folder = published.parents[1]
    kd.export.write_server_config(folder)
    (port,) = free_ports(1)
    flags = [f"--rest_api_port={port}", f"--model_config_file={folder}/models.config"]
    server = subprocess.Popen([os.environ["TF_SERVING_BIN"], "--port=0", *flags])
    try:
        wait_for(f"http://127.0.0.1:{port}/v1/models/net")
        for signature in SIGNATURES:
            assert_golden_is_answered(published, signature, f"127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait()


def wait_for(url):
    for _ in range(60):
        try:
            if "AVAILABLE" in requests.get(url, timeout=1).text:
                return
        except requests.ConnectionError:
            pass  # it does not listen yet
        time.sleep(0.5)
    raise AssertionError("the server has not come up in 30 seconds")
