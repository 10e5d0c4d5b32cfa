"""fb.resnet.torch's augmentation written out in numpy, picture by picture."""

import numpy as np
import tensorflow as tf


def window_by_hand(height, width, seed):
    """fb.resnet.torch's RandomSizedCrop, attempt by attempt, on the same numbers."""
    drawn = tf.random.stateless_uniform([10, 5], seed).numpy()
    one = np.float32(1)
    for area, ratio, coin, y, x in drawn:
        target = (np.float32(0.08) + area * np.float32(0.92)) * np.float32(
            height * width
        )
        aspect = np.float32(3 / 4) + ratio * np.float32(4 / 3 - 3 / 4)
        if coin < 0.5:
            aspect = one / aspect
        w = round(float(np.sqrt(target * aspect)))
        h = round(float(np.sqrt(target / aspect)))
        if 0 < w <= width and 0 < h <= height:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    side = min(height, width)
    return (height - side + 1) // 2, (width - side + 1) // 2, side, side


def jitter_by_hand(image, factors, order):
    """fb.resnet.torch's ColorJitter: blends, one after another."""
    weights = np.array([0.299, 0.587, 0.114])
    for kind in order:
        a, gray = factors[kind], (image @ weights)[..., None]
        other = (0.0, gray.mean(), gray)[kind]
        image = a * image + (1 - a) * other
    return image
