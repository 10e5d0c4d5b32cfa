"""Files that tell TensorFlow Serving what to serve, and how to batch."""

import os
from pathlib import Path

from keras_densenet.whole_file import whole_file

MODELS = "models.config"
BATCHING = "batching_parameters.txt"


def write_server_config(
    folder: str | os.PathLike,
    base_path: str | os.PathLike | None = None,
    max_batch_size: int = 32,
    num_batch_threads: int | None = None,
) -> list[str]:
    """Write `models.config` and `batching_parameters.txt` for a folder of models.

    They go with the server's `--model_config_file=`, and with `--enable_batching
    --batching_parameters_file=`.

    Args:
        folder: Holds a folder for each model, which holds its versions, such as
            "saved_models".
        base_path: Where the server sees that folder, such as "/models" in a container;
            by default where it is.
        max_batch_size: Pictures that the server computes at once, at most; 1 or more.
        num_batch_threads: Batches that it computes at once; by default one for each
            processor.

    Returns:
        The names of the models.

    Raises:
        ValueError: There is no model in the folder, base_path is not absolute, or
            max_batch_size is below 1.
    """
    root = Path(folder)
    names = sorted(child.name for child in root.glob("*") if _has_a_version(child))
    if not names:
        raise ValueError(
            f"{root} has no models. Export one first, such as {root}/cifar10/1. "
            f"Received: folder={str(root)!r}"
        )
    seen_at = Path(base_path) if base_path is not None else root.resolve()
    if not seen_at.is_absolute():
        raise ValueError(
            "base_path must be an absolute path, as TensorFlow Serving demands. "
            f"Received: {str(base_path)!r}"
        )
    if max_batch_size < 1:
        raise ValueError(
            f"max_batch_size must be 1 or more. Received: {max_batch_size}"
        )
    entries = "".join(_MODEL.format(name=n, path=seen_at / n) for n in names)
    with whole_file(root / MODELS) as beside:
        beside.write_text(f"model_config_list {{\n{entries}}}\n")
    threads = num_batch_threads or os.cpu_count() or 1
    with whole_file(root / BATCHING) as beside:
        beside.write_text(_batching(max_batch_size, threads))
    return names


_MODEL = """\
  config {{
    name: "{name}"
    base_path: "{path}"
    model_platform: "tensorflow"
  }}
"""


def _has_a_version(folder: Path) -> bool:
    return any(child.name.isdecimal() for child in folder.glob("*/"))


def _batching(max_batch_size: int, threads: int) -> str:
    """Return the file's text; batches are filled up to a power of two or the most."""
    sizes = [2**n for n in range(max_batch_size.bit_length())]
    sizes = [size for size in sizes if size < max_batch_size] + [max_batch_size]
    return (
        f"max_batch_size {{ value: {max_batch_size} }}\n"
        "batch_timeout_micros { value: 0 }\n"
        f"num_batch_threads {{ value: {threads} }}\n"
        "max_enqueued_batches { value: 100 }\n"
    ) + "".join(f"allowed_batch_sizes: {size}\n" for size in sizes)
