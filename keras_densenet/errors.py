"""What a training is refused for before it begins, and what ends it."""


class MisconfigurationError(ValueError):
    """Arguments that cannot work, alone or together; the message has the cure."""


MisconfigurationException = MisconfigurationError  # Lightning's name for it


class NotANumberError(ArithmeticError):
    """The loss is not a number; the message names the last good checkpoint."""


class WorkerLostError(RuntimeError):
    """Another machine of a training is gone; the message says how to go on."""
