"""What the trainer refuses before it builds anything."""


class MisconfigurationError(ValueError):
    """Arguments that cannot work, alone or together; the message has the cure."""


MisconfigurationException = MisconfigurationError  # Lightning's name for it
