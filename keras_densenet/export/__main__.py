"""Check exported versions, and write the files of their server.

python -m keras_densenet.export verify saved_models/cifar10/1
python -m keras_densenet.export configure saved_models --base_path /models
"""

from rich.console import Console
from rich.table import Table

from keras_densenet.export.server_config import write_server_config
from keras_densenet.export.verification import (
    ExportError,
    openvino_difference,
    verify,
)
from keras_densenet.subcommands import USERS_MISTAKES, run_subcommands


def check(version: str) -> None:
    """Ask a version its golden requests, in a process that has TensorFlow alone.

    Where OpenVINO is installed, it is asked as well. The exit status is 1 if an answer
    is not the golden one.

    Args:
        version: Its folder, such as saved_models/cifar10/1.
    """
    report = verify(version)
    table = Table("signature", "runtime", "largest difference")
    for name, difference in report["differences"].items():
        table.add_row(name, f"TensorFlow {report['tensorflow']}", f"{difference:.1e}")
    openvino = openvino_difference(version)
    if openvino is not None:
        table.add_row("serving_default", openvino.runtime, f"{openvino.difference:.1e}")
    console = Console()
    console.print(table)
    warm_up = report["warm_up"]
    if warm_up is None:
        say = "not replayed, since tensorflow-serving-api is not installed"
    else:
        say = f"{warm_up} replayed"
    console.print(f"{version} holds. Warm-up requests: {say}.", soft_wrap=True)


def configure(
    folder: str,
    base_path: str | None = None,
    max_batch_size: int = 32,
    num_batch_threads: int | None = None,
) -> None:
    """Write models.config and batching_parameters.txt for a folder of models.

    Args:
        folder: Holds a folder for each model, such as saved_models.
        base_path: Where the server sees that folder, such as /models in a container.
        max_batch_size: Pictures that the server computes at once, at most.
        num_batch_threads: Batches that it computes at once; by default one for each
            processor.
    """
    names = write_server_config(folder, base_path, max_batch_size, num_batch_threads)
    print(f"Wrote {folder}/models.config for {', '.join(names)}, and its batching.")


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line says."""
    run_subcommands(
        {"verify": check, "configure": configure},
        "export",
        arguments,
        (ExportError, *USERS_MISTAKES),
    )


if __name__ == "__main__":
    main()
