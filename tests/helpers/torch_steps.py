"""Twenty steps of SGD in PyTorch, for test_optimizer.py to compare with.

    .venv-torch/bin/python tests/helpers/torch_steps.py

`make benchmark-setup` makes that environment.

Prints the losses, in float64: in float32 PyTorch's own are a thousandth away from these
after four steps, since a value near a ReLU's bend falls on either side. Weights and
batches are drawn by NumPy, in Keras's shapes and order, so that both have the same.
"""

import sys
from pathlib import Path

import numpy as np

DEPTH, GROWTH_RATE, BATCH, STEPS = 16, 4, 32, 20
# Powers of two are the same in float32, which Keras has its rates in: 0.1 is 1e-8 away,
# which a value near a ReLU's bend makes 2e-5 in ten steps.
RATE, FACTOR, DROPPED_AFTER = 0.125, 0.125, 10
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4


def drawn(shapes):
    """Draw trainable weights: kernels (..., in, out) He-normal, the others near 1 or 0.

    Vectors come in pairs, gamma and beta, but for the classifier's bias, the last.
    """
    rng = np.random.default_rng(0)
    weights, is_gamma = [], True
    for shape in shapes:
        noise = rng.normal(size=shape)
        if len(shape) > 1:
            weights.append(noise * np.sqrt(2 / (np.prod(shape[:-2]) * shape[-1])))
        else:
            weights.append(0.1 * noise + float(is_gamma and shape is not shapes[-1]))
            is_gamma = not is_gamma
    return weights


def batches():
    """Draw a batch a step: pictures (N, 32, 32, 3) and labels."""
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        images = rng.normal(size=(BATCH, 32, 32, 3))
        labels = rng.integers(0, 10, BATCH)
        yield images + 0.3 * labels[:, None, None, None], labels


def kerass_shape(parameter):
    """Return the shape that Keras has for a PyTorch parameter."""
    shape = tuple(parameter.shape)
    return (*shape[2:], *shape[1::-1]) if len(shape) > 1 else shape


def losses():
    """Train, and return the loss of each step."""
    import torch
    from torch_worker import densenet_bc

    model = densenet_bc(DEPTH, GROWTH_RATE, efficient=False).double().train()
    parameters = list(model.parameters())
    for parameter, weight in zip(
        parameters, drawn([kerass_shape(p) for p in parameters]), strict=True
    ):
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[weight.ndim]
        parameter.data = torch.tensor(weight.transpose(axes).copy())
    optimizer = torch.optim.SGD(
        parameters,
        RATE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        nesterov=True,
    )
    for step, (images, labels) in enumerate(batches()):
        if step == DROPPED_AFTER:
            optimizer.param_groups[0]["lr"] = RATE * FACTOR
        optimizer.zero_grad()
        images = torch.tensor(images.transpose(0, 3, 1, 2).copy())
        loss = torch.nn.functional.cross_entropy(model(images), torch.tensor(labels))
        loss.backward()
        optimizer.step()
        yield loss.item()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    print([float(f"{loss:.9g}") for loss in losses()])
