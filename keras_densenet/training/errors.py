"""What the trainer refuses before it builds anything, and what ends several workers."""


class MisconfigurationError(ValueError):
    """Arguments that cannot work, alone or together; the message has the cure."""


MisconfigurationException = MisconfigurationError  # Lightning's name for it


class WorkerLostError(RuntimeError):
    """Another machine of a training is gone; the message says how to go on."""
