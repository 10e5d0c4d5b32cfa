"""Predictions of pixels: counted, scored and drawn, by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_densenet.analysis import MaskPredictions, write_class_maps
from keras_densenet.analysis.mask_predictions import mask_predictions_of
from keras_densenet.analysis.mask_report import (
    facts_of_masks,
    overlay,
    parts_of_masks,
)

COUNTS = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])


def test_scores_by_hand():
    found = MaskPredictions(COUNTS, ["a", "b", "none"], pictures=2)
    assert len(found) == 2
    a, b, none = found.pixel_scores()
    assert a.iou == pytest.approx(6 / 9)  # of a or taken for a: 6 + 2 + 1
    assert b.iou == pytest.approx(3 / 6)
    assert np.isnan(none.iou)
    assert (a.precision, a.recall, a.share) == pytest.approx((6 / 7, 6 / 8, 8 / 12))
    assert found.mean_iou == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert found.pixel_accuracy == pytest.approx(9 / 12)


def test_nothing_is_known_where_all_is_void():
    found = MaskPredictions(np.zeros((2, 2), int), ["a", "b"], pictures=1)
    assert np.isnan(found.mean_iou)
    assert facts_of_masks(found) == {"mean IoU": "not known: all is void"}


class Data:
    class_names = ("dark", "bright")
    mean, std = (0.0,), (1.0,)


def brightness():
    """Answer class 1 where a pixel is above 0."""
    inputs = keras.Input((2, 2, 1))
    logits = keras.ops.concatenate([-inputs, inputs], axis=-1)
    return keras.Model(inputs, logits)


def test_pictures_are_counted_without_void():
    pictures = np.array([[[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, 1], [1, 1]]])
    masks = np.array([[[1, 1], [0, 0]], [[1, 1], [0, 255]], [[255] * 2] * 2])
    batches = tf.data.Dataset.from_tensor_slices(
        (pictures[..., np.newaxis].astype("float32"), masks)
    ).batch(2)
    found = mask_predictions_of(brightness(), batches, Data)
    # The second picture: 1 is right, 1 is taken for 0, and 0 for 1.
    np.testing.assert_array_equal(found.counts, [[2, 1], [1, 3]])
    assert found.pictures == 3
    assert [example.iou for example in found.worst] == pytest.approx([1 / 6, 1.0])
    assert [example.iou for example in found.best] == pytest.approx([1.0, 1 / 6])
    np.testing.assert_array_equal(found.worst[0].mask, masks[1])
    np.testing.assert_array_equal(found.worst[0].answer, [[1, 0], [1, 0]])
    parts = parts_of_masks(found)
    assert [row["name"] for row in parts["rows"]] == ["dark", "bright"]
    assert len(parts["worst"]) == 2


def test_an_overlay_has_a_color_for_each_class():
    picture = np.full((1, 4, 3), 100, np.uint8)
    drawn = overlay(picture, np.array([[0, 1, 2, 255]]))
    assert len({tuple(pixel) for pixel in drawn[0].tolist()}) == 4
    # 45 % of the picture's 100 and 55 % of white.
    np.testing.assert_array_equal(drawn[0, 3], [185] * 3)


def test_class_maps_are_masks_again(tmp_path):
    shares = np.zeros((2, 2, 3, 4), "float32")
    shares[0, ..., 2] = shares[1, ..., 3] = 1
    files = {0: "/somewhere/street.jpg", 4: "b/street.png"}
    folder = write_class_maps(tmp_path / "maps", shares, files)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["00000-street.png", "00004-street.png"]
    for name, number in zip(names, (2, 3), strict=True):
        image = Image.open(folder / name)
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), np.full((2, 3), number))
    write_class_maps(folder, shares, files)  # again
    with pytest.raises(ValueError, match="there before, such as 00004-street"):
        write_class_maps(folder, shares[:1], {0: "street.jpg"})
    with pytest.raises(ValueError, match="2 pictures and 1 files"):
        write_class_maps(tmp_path / "few", shares, {0: "street.jpg"})
    with pytest.raises(ValueError, match=r"numpy\.save"):
        write_class_maps(tmp_path / "volumes", np.zeros((1, 2, 2, 2, 3)))
    alone = write_class_maps(tmp_path / "alone", shares)
    assert len(list(alone.iterdir())) == 2
