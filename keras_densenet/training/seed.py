"""One seed for everything."""

import keras
import tensorflow as tf

_last: int | None = None  # as random generators are the process's


def seed_everything(seed: int, deterministic: bool = False) -> int:
    """Seed Python's `random`, NumPy, TensorFlow and Keras.

    It becomes `keras.utils.set_random_seed(seed)`.

    Args:
        seed: In 0..2^32 - 1.
        deterministic: Whether TensorFlow must also use deterministic kernels, which
            are slower: `tf.config.experimental.enable_op_determinism()`.

    Returns:
        The seed.
    """
    global _last
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    _last = seed
    return seed


def last_seed() -> int | None:
    """Return the seed that this process was given last, or None."""
    return _last
