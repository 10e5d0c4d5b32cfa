"""The type of what flows through a network: a tensor, symbolic or not, or an array."""

from typing import Any, TypeAlias

# Keras's backends share no type of tensors, so that a type checker can know no more.
Tensor: TypeAlias = Any
