"""A process that classifies pictures with one runtime; see `worker.py`.

TensorFlow's SavedModels are run through its C library, as a server runs them.
"""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

import importlib.util  # noqa: E402
import os  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import worker  # noqa: E402

C_API = Path(__file__).parents[1] / "tests" / "helpers" / "c_api.py"


def tensorflow(version: Path) -> tuple[Callable[[Any], Any], str]:
    """Load a SavedModel with TensorFlow; return what answers, and the version."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    spec = importlib.util.spec_from_file_location("c_api", C_API)
    c_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(c_api)
    session = c_api.Session(version)
    (name,) = session.signatures["serving_default"][0]

    def answer(images: Any) -> Any:
        return session.run("serving_default", {name: images})

    return answer, session.version


def openvino(version: Path, precise: bool) -> tuple[Callable[[Any], Any], str]:
    """Load a SavedModel with OpenVINO, in float32 if `precise`."""
    import openvino as ov

    options = {"INFERENCE_PRECISION_HINT": "f32"} if precise else {}
    core = ov.Core()
    model = core.compile_model(core.read_model(version), "CPU", options)
    request = model.create_infer_request()
    return lambda images: request.infer({"images": images}), ov.__version__


def onnx(file: Path) -> tuple[Callable[[Any], Any], str]:
    """Load an ONNX file with ONNX Runtime."""
    import onnxruntime as ort

    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images}), ort.__version__


def litert(file: Path) -> tuple[Callable[[Any], Any], str]:
    """Load a LiteRT file."""
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner("serving_default")
    return lambda images: runner(images=images), ai_edge_litert.__version__


def loaded(variant: str, folder: Path) -> tuple[Callable[[Any], Any], dict]:
    """Load a variant's file; return what answers, and the library's version."""
    ours = folder / "ours" / "1"
    loaders = {
        "served_ours": lambda: tensorflow(ours),
        "served_ours_bfloat16": lambda: tensorflow(folder / "ours_bfloat16" / "1"),
        "served_applications": lambda: tensorflow(folder / "applications" / "1"),
        "served_openvino": lambda: openvino(ours, precise=True),
        "served_openvino_default": lambda: openvino(ours, precise=False),
        "served_onnx": lambda: onnx(folder / "ours.onnx"),
        "served_litert": lambda: litert(folder / "ours.tflite"),
    }
    answer, version = loaders[variant]()
    library = variant.split("_")[1]
    names = {"ours": "tensorflow", "applications": "tensorflow"}
    return answer, {names.get(library, library): version}


def main() -> None:
    """Answer one batch of noise, as often as the input asks for."""
    variants = ["ours", "ours_bfloat16", "applications", "openvino"]
    variants += ["openvino_default", "onnx", "litert"]
    arguments = worker.parse([f"served_{variant}" for variant in variants])
    # NumPy loads `random` when it is used, and must do so before TensorFlow's library,
    # beside whose symbols it cannot be loaded.
    shape = (arguments.batch_size, arguments.image_size, arguments.image_size, 3)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    answer, versions = loaded(arguments.variant, Path(arguments.folder))
    imported = time.perf_counter()
    worker.serve(lambda: answer(images), STARTED, imported, worker.versions(**versions))


if __name__ == "__main__":
    main()
