import keras
import numpy as np
import pytest
from matplotlib.image import imread

import keras_densenet as kd


def test_matrix_of_weights_set_by_hand():
    model = kd.DenseNet(depth=10, growth_rate=4)  # two layers a block, no bottleneck
    block = model.get_layer("dense_block1")
    # 16 maps at the input; layer 2 reads 16 and then 4 more; all weights of a source
    # have one absolute value.
    for layer, values in zip(
        block.dense_layers, ([0.25] * 16, [0.5] * 16 + [-2.0] * 4), strict=True
    ):
        kernel = np.broadcast_to(np.array(values)[:, None], (3, 3, len(values), 4))
        layer.conv.kernel.assign(kernel)
    values = np.array([1.0] * 16 + [3.0] * 4 + [-5.0] * 4)[:, None]
    model.get_layer("transition1").conv.kernel.assign(
        np.broadcast_to(values, (1, 1, 24, 24))
    )
    matrix = kd.analysis.feature_reuse(model)[0]
    nan = np.nan
    np.testing.assert_array_equal(
        matrix, [[0.25, 0.5, 1.0], [nan, 2.0, 3.0], [nan, nan, 5.0]]
    )


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (lambda: kd.DenseNetBC(22, 4), [3, 3, 3]),
        (lambda: kd.DenseNet121(input_shape=(32, 32, 3)), [6, 12, 24, 16]),
    ],
)
def test_one_matrix_a_block_full_on_and_above_the_diagonal(model, layers):
    matrices = kd.analysis.feature_reuse(model())
    assert [len(matrix) - 1 for matrix in matrices] == layers
    for matrix in matrices:
        filled = np.isfinite(matrix)
        np.testing.assert_array_equal(filled, np.triu(np.ones_like(matrix, bool)))


def test_without_the_classifier_nothing_reads_the_last_block():
    model = kd.DenseNet121(include_top=False, input_shape=(32, 32, 3))
    last = kd.analysis.feature_reuse(model)[-1]
    assert np.isnan(last[:, -1]).all()
    assert np.isfinite(last[0, 0])


def test_the_picture_is_drawn(tmp_path):
    matrices = kd.analysis.feature_reuse(kd.DenseNetBC(22, 4))
    kd.analysis.plot_feature_reuse(matrices, tmp_path / "reuse.png")
    pixels = imread(tmp_path / "reuse.png")
    assert pixels.shape[1] > 2 * pixels.shape[0]  # three blocks side by side
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 50


def test_a_model_without_blocks_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="mine")
    with pytest.raises(ValueError, match="mine has no DenseBlock"):
        kd.analysis.feature_reuse(model)
