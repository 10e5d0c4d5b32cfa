"""The error for weights that cannot be loaded."""


class WeightsError(ValueError):
    """The file cannot be read, or the weights are those of another network."""
