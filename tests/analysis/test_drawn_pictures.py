"""What is drawn of signals and of volumes, pixel by pixel."""

import numpy as np
import pytest

from keras_densenet.analysis.drawn_pictures import drawing, drawing_width, how_drawn

NAN = np.nan


def test_a_picture_is_as_it_was():
    picture = np.array([[[10, 20, 30], [300, -1, 0.4]]])
    heat = np.array([[0.0, 1.0]])
    shown = drawing(picture, heat)
    assert shown.picture.tolist() == [[[10, 20, 30], [255, 0, 0]]]
    np.testing.assert_array_equal(shown.heat, heat)
    assert drawing_width(picture) == 1
    assert how_drawn(picture) == ""


def ramp(size=(11, 3, 4)):
    """Return a volume from -500 to 500 along its depth, in steps of 100."""
    depth = np.linspace(-500, 500, 11)[:, np.newaxis, np.newaxis, np.newaxis]
    return np.broadcast_to(depth, (*size, 1)).copy()


def test_the_middle_slices_of_a_volume_by_hand():
    shown = drawing(ramp())
    # Both percentiles are values of the outermost slices: the gray of slice z is
    # 25.5 z, in whole numbers and halves to even.
    grays = [0, 26, 51, 76, 102, 128, 153, 178, 204, 230, 255]
    axial, coronal, sagittal = np.split(shown.picture, [5, 10], axis=1)
    assert shown.picture.shape == (11, 4 + 1 + 4 + 1 + 3, 3)
    assert (axial[:3, :4] == 128).all()
    assert (axial[3:] == 255).all()  # nothing, in white
    assert (axial[:, 4] == coronal[:, 4]).all()
    assert (coronal[:, 4] == 255).all()
    for cut in (coronal[:, :4], sagittal):
        assert (cut == np.array(grays)[:, np.newaxis, np.newaxis]).all()
    # No heat is 0 on the slices, and unknown between them.
    assert np.isnan(shown.heat[:, [4, 9]]).all()
    assert np.isnan(shown.heat[3:, :4]).all()
    assert np.count_nonzero(shown.heat == 0) == 3 * 4 + 11 * 4 + 11 * 3


def test_slices_go_through_the_greatest_heat():
    volume, heat = ramp(), np.zeros((11, 3, 4))
    heat[2, 0, 3], heat[7, 1, 1] = 1, 0.5
    shown = drawing(volume, heat)
    assert (shown.picture[:3, :4] == 51).all()  # slice 2, see above
    # Row and column of axial (0, 3), coronal (2, 3) and sagittal (2, 0).
    assert np.argwhere(shown.heat == 1).tolist() == [[0, 3], [2, 5 + 3], [2, 10 + 0]]
    assert not (shown.heat == 0.5).any()


def test_which_slice_is_which():
    # The gray says along which axis a slice lies: 0, 1/2 and 1 of the range.
    for axis, varies in enumerate([(1, 2), (0, 2), (0, 1)]):
        volume = np.zeros((9, 9, 9, 1))
        volume += np.linspace(0, 8, 9).reshape(np.roll([9, 1, 1, 1], axis))
        cuts = np.split(drawing(volume).picture[..., 0], [10, 20], axis=1)
        flat = [len(np.unique(cut[:, :9])) == 1 for cut in cuts]
        assert flat == [n == axis for n in range(3)]
        assert axis not in varies


def test_a_few_extreme_values_leave_the_gray_as_it_is():
    volume = ramp((11, 10, 10))
    volume[0, 0, 0], volume[10, 9, 9] = -1e6, 1e6
    np.testing.assert_array_equal(
        drawing(volume).picture, drawing(ramp((11, 10, 10))).picture
    )


def test_channels_of_a_volume_count_alike_whatever_their_units():
    # One of them falls where the other rises, in other units: all is 255 / 2.
    volume = np.concatenate([ramp(), ramp() * -1e-6], axis=-1)
    coronal = drawing(volume).picture[:, 5:9].astype(float)
    np.testing.assert_allclose(coronal, 127.5, atol=0.5)
    flat = np.concatenate([ramp(), np.full((11, 3, 4, 1), 7.0)], axis=-1)
    assert drawing(flat).picture[-1, 5].tolist() == [128] * 3  # (255 + 0) / 2, to even


def test_a_volume_of_one_value_is_black():
    shown = drawing(np.full((4, 4, 4, 1), 1e5, "float32"))
    assert (shown.picture[:, :4] == 0).all()
    assert drawing_width(np.zeros((4, 4, 4, 1))) == 3
    assert "1st to the 99th percentile" in how_drawn(np.zeros((4, 4, 4, 1)))


def rows_of(picture, column):
    """Return where a column of a strip is dark."""
    return np.flatnonzero(picture[:, column, 0] < 128)


def test_the_strip_of_a_signal_by_hand():
    # Two lanes of 120 pixels, of which a tenth is free on each side: from 12 to 108.
    # Four moments of 180 pixels each; the curves go through their middles.
    signal = np.array([[0, 5], [0, 5], [1e-3, -5], [1e-3, -5]])
    shown = drawing(signal, np.array([0.0, 0.5, 1.0, 0.25]))
    assert shown.picture.shape == (240, 720, 3)
    for column, rows in ((45, (108, 132)), (620, (12, 228)), (360, (60, 180))):
        found = rows_of(shown.picture, column)
        assert {*rows} <= {int(row) for row in found}
        assert all(min(abs(row - np.array(rows))) <= 2 for row in found)
    np.testing.assert_array_equal(
        shown.heat, np.tile(np.repeat([0.0, 0.5, 1.0, 0.25], 180), (240, 1))
    )


def test_no_heat_of_a_long_signal_is_left_out():
    heat = np.zeros(7200)
    heat[4503] = 1  # 10 moments a column
    shown = drawing(np.zeros((7200, 1)), heat)
    assert np.flatnonzero(shown.heat[0]).tolist() == [450]


@pytest.mark.parametrize("length", [1, 5])
def test_a_flat_signal_is_a_line_through_the_middle(length):
    shown = drawing(np.full((length, 1), 3.0))
    for column in (0, 360, 719):
        assert 120 in rows_of(shown.picture, column)
    dark = np.flatnonzero((shown.picture[..., 0] < 128).any(axis=1))
    assert all(abs(dark - 120) <= 1)


def test_the_first_six_channels_are_drawn():
    signal = np.random.default_rng(0).normal(size=(20, 8))
    found = drawing(signal).picture
    np.testing.assert_array_equal(found, drawing(signal[:, :6]).picture)
    assert (found != drawing(signal[:, :5]).picture).any()
    assert drawing_width(signal) == 3
    assert "at most 6" in how_drawn(signal)
