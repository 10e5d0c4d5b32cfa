import keras
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.text import Text

import keras_densenet as kd


@pytest.mark.parametrize("input_shape", [(8, 1), (32, 32, 3), (4, 4, 4, 1)])
def test_matrix_of_weights_set_by_hand(input_shape):
    # Two layers a block, no bottleneck.
    model = kd.DenseNet(depth=10, growth_rate=4, input_shape=input_shape)
    rank = len(input_shape) - 1
    block = model.get_layer("dense_block1")
    # 16 maps at the input; layer 2 reads 16 and then 4 more; all weights of a source
    # have one absolute value.
    for layer, values in zip(
        block.dense_layers, ([0.25] * 16, [0.5] * 16 + [-2.0] * 4), strict=True
    ):
        shape = (*[3] * rank, len(values), 4)
        kernel = np.broadcast_to(np.array(values)[:, None], shape)
        layer.conv.kernel.assign(kernel)
    values = np.array([1.0] * 16 + [3.0] * 4 + [-5.0] * 4)[:, None]
    model.get_layer("transition1").conv.kernel.assign(
        np.broadcast_to(values, (*[1] * rank, 24, 24))
    )
    matrix = kd.analysis.feature_reuse(model)[0]
    nan = np.nan
    np.testing.assert_array_equal(
        matrix, [[0.25, 0.5, 1.0], [nan, 2.0, 3.0], [nan, nan, 5.0]]
    )


def test_matrix_of_bottlenecks_set_by_hand():
    model = kd.DenseNetBC(depth=16, growth_rate=4)  # two layers a block
    block = model.get_layer("dense_block3")  # its input has 8 maps
    for layer, values in zip(
        block.dense_layers, ([1.0] * 8, [-2.0] * 8 + [6.0] * 4), strict=True
    ):
        kernel = np.broadcast_to(np.array(values)[:, None], (1, 1, len(values), 16))
        layer.bottleneck_conv.kernel.assign(kernel)
    values = np.array([3.0] * 8 + [5.0] * 4 + [-7.0] * 4)[:, None]
    model.get_layer("classifier").kernel.assign(np.broadcast_to(values, (16, 10)))
    matrix = kd.analysis.feature_reuse(model)[2]
    nan = np.nan
    np.testing.assert_array_equal(matrix, [[1, 2, 3], [nan, 6, 5], [nan, nan, 7]])
    np.testing.assert_allclose(
        kd.analysis.rescaled(matrix),
        [[1, 1 / 3, 3 / 7], [nan, 1, 5 / 7], [nan, nan, 1]],
        rtol=1e-6,
    )


@pytest.mark.parametrize("where", ["file", "run"])
def test_a_file_or_a_runs_folder_gives_the_same(tmp_path, where):
    model = kd.DenseNetBC(16, 4)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    model.save(folder / "last.keras")
    path = folder / "last.keras" if where == "file" else tmp_path
    for found, expected in zip(
        kd.analysis.feature_reuse(path),
        kd.analysis.feature_reuse(model),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(FileNotFoundError, match=r"Give a \.keras file, or the folder"):
        kd.analysis.feature_reuse(tmp_path / "nothing")


def test_the_command_draws_and_says_what_it_sees(tmp_path, capsys):
    from keras_densenet.analysis import __main__ as command

    kd.DenseNetBC(22, 4).save(tmp_path / "net.keras")
    picture = tmp_path / "reuse.svg"
    command.main(["feature_reuse", str(tmp_path / "net.keras"), str(picture)])
    printed = capsys.readouterr().out
    assert [line[:2] for line in printed.splitlines()[:4]] == ["1.", "2.", "3.", "4."]
    assert picture.stat().st_size > 1000
    with pytest.raises(SystemExit, match="There is no"):
        command.main(["feature_reuse", str(tmp_path / "none"), str(picture)])


def triangle(*rows):
    """Return a matrix whose rows begin at the diagonal."""
    matrix = np.full((len(rows), len(rows)), np.nan, "float32")
    for number, row in enumerate(rows):
        matrix[number, number:] = row
    return matrix


def test_the_papers_observations_in_numbers():
    """Three blocks of five layers; each number below is worked out by hand."""
    first = triangle(
        [1, 1, 1, 1, 1, 4], [1, 1, 1, 1, 4], [1, 1, 1, 4], [3, 3, 4], [3, 4], [1]
    )
    second = triangle(
        [1, 1, 1, 1, 1, 2], [2, 2, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2], [2, 2], [2]
    )
    last = triangle(
        [1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 1], [2, 2, 2, 2], [2, 2, 2], [2, 3], [5]
    )
    spread, transitions, least, classifier = kd.analysis.observe_feature_reuse(
        [first, second, last]
    )
    # Columns of four sources: 2 of 6, of half; of five: 2 of 9, of 2 / 5. Then 3 of 7
    # and 3 of 9, twice: the mean of 2/3, 5/9, 6/7, 5/6, 6/7, 5/6.
    assert "0.77 of what an equal" in spread
    assert spread.endswith("(holds).")
    assert "0.29, 1.00 of the mean" in transitions  # 1 / (21 / 6)
    assert transitions.endswith("(holds).")
    assert "0.50, 0.50 of the weight" in least
    assert least.endswith("(holds).")
    assert "4.00 times the weight" in classifier  # (3 + 5) / (1 + 1)
    assert classifier.endswith("(holds).")
    reverse = [first[::-1, ::-1].T.copy() for first in (first, first)]
    *_, third, fourth = kd.analysis.observe_feature_reuse(reverse)
    assert third.endswith("(does not hold here).")
    assert fourth.endswith("(does not hold here).")


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (lambda: kd.DenseNetBC(22, 4), [3, 3, 3]),
        (lambda: kd.DenseNet121(input_shape=(32, 32, 3)), [6, 12, 24, 16]),
        (lambda: kd.DenseNet(blocks=(3,), growth_rate=4), [3]),
        (lambda: kd.DenseNetBC(None, 4, blocks=(1, 2, 3, 2, 1)), [1, 2, 3, 2, 1]),
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


@pytest.mark.slow
def test_the_picture_is_drawn(tmp_path):
    matrices = kd.analysis.feature_reuse(kd.DenseNetBC(22, 4))
    kd.analysis.plot_feature_reuse(matrices, tmp_path / "reuse.png")
    pixels = imread(tmp_path / "reuse.png")
    assert pixels.shape[1] > pixels.shape[0]  # three blocks side by side, twice
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 50


@pytest.mark.parametrize("blocks", [(4,), (1, 4, 2, 1, 3)])
def test_one_block_and_five_are_drawn(tmp_path, blocks):
    matrices = kd.analysis.feature_reuse(kd.DenseNetBC(None, 4, blocks=blocks))
    assert kd.analysis.observe_feature_reuse(matrices)
    kd.analysis.plot_feature_reuse(matrices, tmp_path / "reuse.png")
    assert imread(tmp_path / "reuse.png").shape[1] > 900


@pytest.mark.parametrize("layers", [(5,), (3, 3), (6, 6, 6), (6, 12, 24, 16)])
def test_no_letter_of_the_picture_is_cut_at_its_edge(layers):
    figure = kd.analysis.plot_feature_reuse([np.triu(np.ones((n, n))) for n in layers])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= width, text
            assert box.y1 <= height, text


def test_a_model_without_blocks_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="mine")
    with pytest.raises(ValueError, match="mine has no DenseBlock"):
        kd.analysis.feature_reuse(model)


def test_blocks_of_one_and_two_layers_are_too_short_to_say(tmp_path):
    for depth in (7, 10):
        matrices = kd.analysis.feature_reuse(kd.DenseNet(depth, 4))
        said = kd.analysis.observe_feature_reuse(matrices)
        assert "too short" in said[0]
        assert "too short" in said[2]
        kd.analysis.plot_feature_reuse(matrices, tmp_path / "short.png")


# --- networks and files that are not what one expects ------------------------------


def with_head(head):
    """Return a network with a block of ours and a head of its own."""
    pictures = keras.Input((8, 8, 3))
    maps = kd.layers.DenseBlock(2, 4)(pictures)  # 3 + 2 x 4 maps
    return keras.Model(pictures, head(maps))


def test_the_first_dense_layer_reads_the_maps():
    pool = keras.layers.GlobalAveragePooling2D()
    first = keras.layers.Dense(6, activation="relu")
    model = with_head(lambda x: keras.layers.Dense(2)(first(pool(x))))
    weights = np.abs(np.random.default_rng(0).normal(size=(11, 6))).astype("float32")
    first.set_weights([weights, np.zeros(6)])
    (matrix,) = kd.analysis.feature_reuse(model)
    by_hand = [weights[:3].mean(), weights[3:7].mean(), weights[7:].mean()]
    np.testing.assert_allclose(matrix[:, -1], by_hand, rtol=1e-6)


def test_of_flattened_maps_there_is_no_column():
    flat = keras.layers.Flatten()
    model = with_head(lambda x: keras.layers.Dense(2)(flat(x)))
    (matrix,) = kd.analysis.feature_reuse(model)
    assert np.isnan(matrix[:, -1]).all()
    assert np.isfinite(matrix[0, 0])


def test_a_damaged_last_checkpoint_is_passed_over(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    model = kd.DenseNetBC(10, 4)
    model.save(folder / "before-last.keras")
    whole = (folder / "before-last.keras").read_bytes()
    (folder / "last.keras").write_bytes(whole[: len(whole) // 2])
    found = kd.analysis.feature_reuse(tmp_path)
    for ours, theirs in zip(kd.analysis.feature_reuse(model), found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"last\.keras is damaged"):
        kd.analysis.feature_reuse(folder / "last.keras")


def test_a_line_that_was_not_written_whole_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss,val_loss\n0,1.0,2.0\n1,0.5")
    assert kd.analysis.read_metrics(str(path)) == {
        "epoch": [0.0],
        "loss": [1.0],
        "val_loss": [2.0],
    }
    path.write_text("epoch,loss\n0,abc\n")
    with pytest.raises(ValueError, match=r"metrics\.csv is no table of numbers"):
        kd.analysis.read_metrics(path)


def test_a_network_within_a_model_is_looked_into():
    network = kd.DenseNetBC(10, 4, classes=3, input_shape=(8, 8, 3))
    backbone = keras.Model(network.input, network.get_layer("final_relu").output)
    top = [keras.layers.GlobalAveragePooling2D(), network.get_layer("classifier")]
    nested = keras.Sequential([keras.Input((8, 8, 3)), backbone, *top])
    right = kd.analysis.feature_reuse(network)
    for one, other in zip(kd.analysis.feature_reuse(nested), right, strict=True):
        np.testing.assert_array_equal(one, other)


def test_of_two_networks_it_does_not_guess():
    pictures = keras.Input((8, 8, 3))
    networks = [kd.DenseNetBC(10, 4, input_shape=(8, 8, 3), name=n) for n in "ab"]
    both = keras.layers.Average()([network(pictures) for network in networks])
    with pytest.raises(ValueError, match=r"6 dense blocks and 4 transitions.*get_lay"):
        kd.analysis.feature_reuse(keras.Model(pictures, both))
