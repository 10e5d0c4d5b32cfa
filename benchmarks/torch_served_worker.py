"""A process that classifies pictures with PyTorch; see `worker.py`."""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

import torch  # noqa: E402
import torch_worker  # noqa: E402
import worker  # noqa: E402


def main() -> None:
    """Answer one batch of noise, as often as the input asks for."""
    arguments = worker.parse(["served_torch"])
    imported = time.perf_counter()
    torch.manual_seed(0)
    size = arguments.image_size
    if size == 32:
        model = torch_worker.densenet_bc(100, 12, efficient=False)
    else:
        model = torch_worker.densenet_121()
    model = model.to(memory_format=torch.channels_last).eval()
    images = torch.randn(arguments.batch_size, 3, size, size)
    images = images.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def answer() -> torch.Tensor:
        return torch.softmax(model(images), 1)

    worker.serve(answer, STARTED, imported, worker.versions(torch=torch.__version__))


if __name__ == "__main__":
    main()
