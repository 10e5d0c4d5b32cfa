"""Ask TensorFlow Serving what pictures show: by REST, or by gRPC.

    python recipes/ask_server.py cat.jpg dog.png --model cifar10
    python recipes/ask_server.py cat.jpg --model cifar10 --grpc --host localhost:8500

The server serves what `trainer.export` wrote; docs/serving.md has its command. It gets
the files as they are, and decodes and resizes them. gRPC needs more packages:

    pip install "keras-densenet[serving]"

For a client of your own, copy `by_rest` or `by_grpc`: neither needs this package.
"""

import argparse
import base64
import sys
from collections.abc import Sequence
from pathlib import Path

import requests

SECONDS = 30.0


def by_rest(files: Sequence[bytes], model: str, host: str) -> list[dict]:
    """Ask the REST API.

    Args:
        files: JPEG, PNG, BMP or GIF files.
        model: The name that it is served under.
        host: Such as "localhost:8501".

    Returns:
        For each file "classes" and "scores", the most probable first.

    Raises:
        requests.RequestException: The server cannot be reached.
        ValueError: The server refuses; the message is its own.
    """
    instances = [{"b64": base64.b64encode(file).decode()} for file in files]
    request = {"signature_name": "predict_bytes", "instances": instances}
    url = f"http://{host}/v1/models/{model}:predict"
    response = requests.post(url, json=request, timeout=SECONDS)
    answer = response.json()
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["predictions"]


def by_grpc(files: Sequence[bytes], model: str, host: str) -> list[dict]:
    """Ask by gRPC, which takes a third less to send.

    Args:
        files: JPEG, PNG, BMP or GIF files.
        model: The name that it is served under.
        host: Such as "localhost:8500".

    Returns:
        For each file "classes" and "scores", the most probable first.

    Raises:
        grpc.RpcError: The server cannot be reached, or refuses.
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest(output_filter=["classes", "scores"])
    request.model_spec.name = model
    request.model_spec.signature_name = "predict_bytes"
    tensor = tf.make_tensor_proto(list(files), shape=[len(files)])
    request.inputs["image_bytes"].CopyFrom(tensor)
    with grpc.insecure_channel(host) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = stub.Predict(request, timeout=SECONDS).outputs
    classes, scores = (tf.make_ndarray(outputs[name]) for name in ("classes", "scores"))
    return [
        {"classes": [name.decode() for name in names], "scores": row.tolist()}
        for names, row in zip(classes, scores, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, and print the most probable classes of each picture."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", required=True, help="the name it is served under")
    parser.add_argument("--grpc", action="store_true", help="ask by gRPC, not by REST")
    parser.add_argument(
        "--host", help="default: localhost:8501; localhost:8500 by gRPC"
    )
    given = parser.parse_args(arguments)
    ask, port = (by_grpc, 8500) if given.grpc else (by_rest, 8501)
    host = given.host or f"localhost:{port}"
    try:
        files = [picture.read_bytes() for picture in given.pictures]
        answers = ask(files, given.model, host)
    except Exception as error:  # of grpc, which is not imported here
        sys.exit(f"error: {_reason(error, host)}")
    for picture, answer in zip(given.pictures, answers, strict=True):
        pairs = zip(answer["classes"], answer["scores"], strict=True)
        print(f"{picture}: " + ", ".join(f"{name} {p:.1%}" for name, p in pairs))


def _reason(error: Exception, host: str) -> str:
    if isinstance(error, ImportError):
        return f'{error}. Install them: pip install "keras-densenet[serving]"'
    if isinstance(error, requests.ConnectionError):
        return f"no server answers at {host}"
    details = getattr(error, "details", None)  # grpc.RpcError's
    return str(details()) if callable(details) else str(error)


if __name__ == "__main__":
    main()
