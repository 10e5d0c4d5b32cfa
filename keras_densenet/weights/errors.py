"""What is raised for weights that do not fit."""


class WeightsError(ValueError):
    """A file that cannot be read, or weights of another network."""
