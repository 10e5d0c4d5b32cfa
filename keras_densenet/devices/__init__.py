"""Where a model lives: its strategy, its machines and its precision."""

from keras_densenet.devices.devices import Devices, make_devices

__all__ = ["Devices", "make_devices"]
