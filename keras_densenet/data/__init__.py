"""Data modules: what pictures a network is trained, validated and tested on."""

from keras_densenet.data.arrays import ArrayDataModule, Split
from keras_densenet.data.augment import mirror, mirror_and_shift, standardize
from keras_densenet.data.cifar import CIFAR10, CIFAR100
from keras_densenet.data.color import color_jitter, pca_lighting
from keras_densenet.data.crops import (
    center_crop,
    random_resized_crop,
    resize_and_center_crop,
    resize_and_pad,
    resize_short_side,
    resize_to_input,
    ten_crop,
)
from keras_densenet.data.datamodule import DataModule
from keras_densenet.data.datasets import Datasets
from keras_densenet.data.digit_mosaics import DigitMosaics
from keras_densenet.data.digit_scenes import DigitScenes
from keras_densenet.data.digit_volumes import DigitVolumes
from keras_densenet.data.digits import Digits
from keras_densenet.data.image_folder import ImageFolder
from keras_densenet.data.image_table import ImageTable
from keras_densenet.data.imagenet import ImageNet
from keras_densenet.data.label_table import TableError
from keras_densenet.data.labeled_arrays import Arrays
from keras_densenet.data.mask_folder import MaskFolder
from keras_densenet.data.new_pictures import Pictures
from keras_densenet.data.offline import prepared_or_digits
from keras_densenet.data.picture_files import BrokenPictureError
from keras_densenet.data.pictures import PictureDataModule, TenCrops
from keras_densenet.data.preparation import DataUnavailableError
from keras_densenet.data.strong_augmentation import StrongAugmentation
from keras_densenet.data.svhn import SVHN

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "SVHN",
    "ArrayDataModule",
    "Arrays",
    "BrokenPictureError",
    "DataModule",
    "DataUnavailableError",
    "Datasets",
    "DigitMosaics",
    "DigitScenes",
    "DigitVolumes",
    "Digits",
    "ImageFolder",
    "ImageNet",
    "ImageTable",
    "MaskFolder",
    "PictureDataModule",
    "Pictures",
    "Split",
    "StrongAugmentation",
    "TableError",
    "TenCrops",
    "center_crop",
    "color_jitter",
    "mirror",
    "mirror_and_shift",
    "pca_lighting",
    "prepared_or_digits",
    "random_resized_crop",
    "resize_and_center_crop",
    "resize_and_pad",
    "resize_short_side",
    "resize_to_input",
    "standardize",
    "ten_crop",
]
