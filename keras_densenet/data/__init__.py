"""Data modules: what pictures a network is trained, validated and tested on."""

from keras_densenet.data.arrays import ArrayDataModule, Split
from keras_densenet.data.augment import mirror_and_shift, standardise
from keras_densenet.data.cifar import CIFAR10, CIFAR100
from keras_densenet.data.datamodule import DataModule
from keras_densenet.data.digits import Digits
from keras_densenet.data.offline import prepared_or_digits
from keras_densenet.data.preparation import DataUnavailableError
from keras_densenet.data.svhn import SVHN

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "SVHN",
    "ArrayDataModule",
    "DataModule",
    "DataUnavailableError",
    "Digits",
    "Split",
    "mirror_and_shift",
    "prepared_or_digits",
    "standardise",
]
