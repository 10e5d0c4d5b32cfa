"""Networks whose batch norms are unlike those that they began with."""

import numpy as np


def shaken(model):
    """Give a model other batch norms and biases, and return it."""
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            rng.uniform(0.2, 1.2, variable.shape)
            if "variance" in variable.name
            else rng.uniform(-0.4, 0.8, variable.shape)
            if len(variable.shape) == 1
            else weight
            for variable, weight in zip(model.weights, model.get_weights(), strict=True)
        ]
    )
    return model
