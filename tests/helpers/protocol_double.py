"""Doubles of TensorFlow Serving's two protocols, for the clients' tests.

They are not TensorFlow Serving. They take its requests, ask a version through
TensorFlow's C library, and answer in its format; a server's batching, versions, warm-up
and limits are not there.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import c_api
import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_densenet.export.golden import rows_of


@contextmanager
def rest_double(session, model):
    """Serve a double of the REST API's `:predict` and `:classify` at an address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            code, answer = rest_answer(session, model, self.path, json.loads(content))
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def rest_answer(session, model, path, request):
    """Return status and body, row by row, as TensorFlow Serving documents it."""
    _, _, where = path.partition("/v1/models/")
    name, _, verb = where.partition(":")
    if name != model:
        return 404, {"error": f"Servable not found for request: Latest({name})"}
    signature = request.get("signature_name", "serving_default")
    if signature not in session.signatures:
        return 400, {"error": f'Serving signature key "{signature}" not found.'}
    ((takes, info),) = session.signatures[signature][0].items()
    kind = tf.as_dtype(info.dtype).as_numpy_dtype
    feeds = {takes: np.array(rows_of(request), kind)}
    try:
        found = session.run(signature, feeds)
    except c_api.RequestError as error:
        return 400, {"error": str(error)}
    columns = {key: listed(value) for key, value in found.items()}
    if verb == "classify":
        pairs = zip(columns["classes"], columns["scores"], strict=True)
        return 200, {"results": [list(zip(*pair, strict=True)) for pair in pairs]}
    rows = zip(*columns.values(), strict=True)
    return 200, {"predictions": [dict(zip(columns, r, strict=True)) for r in rows]}


def listed(array):
    if array.dtype == object:
        return [[text.decode() for text in row] for row in array]
    return array.tolist()


@contextmanager
def grpc_double(session, model):
    """Serve a double of `PredictionService.Predict`; yield its address."""

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802, the service's name
            if request.model_spec.name != model:
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
            feeds = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            feeds = {k: np.asarray(v) for k, v in feeds.items()}
            try:
                found = session.run(request.model_spec.signature_name, feeds)
            except c_api.RequestError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            response = predict_pb2.PredictResponse()
            for name in request.output_filter or found:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(found[name]))
            return response

    server = grpc.server(ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
