"""TIM-Net built of Keras's layers, an epoch for every line read: run by bench.tim_epoch.

Needs an environment of its own with `pip install tensorflow-cpu`; nothing of ser is imported.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from bench.worker import serve

BATCH, WIDTH, BLOCKS, CLASSES = 64, 39, 8, 8


def half(sequence: object, dilation: int) -> object:
    """Causal convolution, normalisation, ReLU and dropout of channels."""
    out = layers.Conv1D(WIDTH, 2, dilation_rate=dilation, padding="causal")(sequence)
    out = layers.BatchNormalization(momentum=0.99, epsilon=1e-3)(out)
    return layers.SpatialDropout1D(0.1)(layers.Activation("relu")(out))


def branch(sequence: object) -> list[object]:
    """Every block's output, in one direction."""
    outputs = [layers.Conv1D(WIDTH, 1)(sequence)]
    for block in range(BLOCKS):
        hidden = half(half(outputs[-1], 2**block), 2**block)
        outputs.append(layers.Multiply()([outputs[-1], layers.Activation("sigmoid")(hidden)]))
    return outputs[1:]


def build(frames: int) -> keras.Model:
    """The network of Ye et al. (ICASSP 2023), compiled with its Adam and label smoothing."""
    given = keras.Input((frames, WIDTH))
    mirrored = layers.Lambda(lambda sequence: keras.ops.flip(sequence, axis=1))(given)
    scales = [
        layers.GlobalAveragePooling1D()(layers.Add()([one, other]))
        for one, other in zip(branch(given), branch(mirrored), strict=True)
    ]
    stacked = layers.Reshape((WIDTH, 1))(scales[0])
    rest = [layers.Reshape((WIDTH, 1))(scale) for scale in scales[1:]]
    summary = layers.Dense(1, use_bias=False)(layers.Concatenate()([stacked, *rest]))
    logits = layers.Dense(CLASSES)(layers.Flatten()(summary))
    model = keras.Model(given, logits)
    model.compile(
        keras.optimizers.Adam(1e-3, 0.93, 0.98, 1e-8),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    )
    return model


def main() -> None:
    """Serve epochs over 1,296 clips of 215 frames."""
    frames = np.random.default_rng(0).standard_normal((1296, 215, WIDTH), dtype=np.float32)
    target = np.eye(CLASSES, dtype=np.float32)[np.arange(len(frames)) % CLASSES]
    model = build(frames.shape[1])
    serve(lambda: model.fit(frames, target, batch_size=BATCH, epochs=1, verbose=0))


if __name__ == "__main__":
    main()
