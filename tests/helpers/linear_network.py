"""Networks that train in no time."""

import keras


def linear(classes, input_shape, classifier_activation="softmax"):
    """Return class probabilities of pixels; halves of a batch add up to the whole."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation=classifier_activation),
        ],
        name="linear",
    )


def with_state(classes, input_shape):
    """Return the same with moving statistics and dropout."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(classes, activation="softmax"),
        ],
        name="with_state",
    )
