"""Block reconstruction: rounding learned from the outputs of blocks, on a few unlabelled images.

Layer by layer, each kernel makes up for what those before it lost; within a block, the layers can
share that work, and a residual connection is part of it (BRECQ, Li et al., arXiv 2102.05426).

1. Cut the simulation (see `qat`) into blocks.
2. Train each block for some hundred steps to give the output that it gives in float, given what the
   blocks before it, already trained, really send. There the rounding is a relaxed variable; here it
   is the rounded weight itself with a straight-through gradient.
3. Keep a block's old codes where it is no nearer to float.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq_lib.compress.quantize.fake_quant import float_weights, is_wrapper
from edgeq_lib.compress.quantize.quantized_weights import qmax
from edgeq_lib.models import training
from edgeq_lib.models.graph import consumers, expand_activations, fold_batch_norms
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.progress import progress


def reconstruct(
    simulation: keras.Model,
    model: keras.Model,
    images: np.ndarray,
    *,
    steps: int,
    batch: int = 32,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Train the low-bit kernels of a simulation in place, block by block.

    Args:
        simulation: `qat.quantize_aware(model, …, quantized)`.
        model: The float Keras model.
        images: Preprocessed float32 (n, H, W, C), unlabelled.
        steps: Of training per block.
        batch: Images per step.
        learning_rate: Adam's, counted in scales of the kernel and falling along a cosine.
        seed: Of the order of images.

    Returns:
        A record per block: its last layer, and the energy of its output's error as a share of the
        output's, a mean over images, before and after.
    """
    plain, rng, records = (
        expand_activations(fold_batch_norms(model)),
        np.random.default_rng(seed),
        [],
    )
    rounded, exact = _outputs(simulation), _outputs(plain)
    first = next(iter(rounded))
    inputs, targets = _run(keras.Model(simulation.input, rounded[first]), images), images
    for last in progress(blocks_of(simulation), "blocks"):
        block = keras.Model(rounded[first], rounded[last])
        targets = _run(keras.Model(exact[first], exact[last]), targets)
        kernels = [float_weights(layer)[0] for layer in block.layers if _learned(layer)]
        untrained = [kernel.numpy() for kernel in kernels]
        before = _error(_run(block, inputs), targets)
        _train(block, inputs, targets, steps, batch, learning_rate, rng)
        after = _error(_run(block, inputs), targets)
        if after >= before:
            for kernel, values in zip(kernels, untrained, strict=True):
                kernel.assign(values)
        inputs, first = _run(block, inputs), last
        records.append({"block": last, "before": before, "after": min(after, before)})
    return records


def blocks_of(simulation: keras.Model) -> list[str]:
    """List the layers that end a block, in the order of the graph.

    All that comes later depends on nothing older than a block's output, dense layers or
    convolutions read it, and the block holds a low-bit kernel: residual blocks, and pairs of a
    pointwise and a depthwise layer where there are none.
    """
    numbers = {layer.name: number for number, layer in enumerate(simulation.layers)}
    last_reader, has_low_bits = 0, False  # of all outputs so far; in the block so far
    last_layers: list[str] = []
    for number, layer in enumerate(simulation.layers):
        readers = consumers(simulation, layer)
        has_low_bits |= _learned(layer) is not None
        is_cut = last_reader <= number and any(_starts_block(reader) for reader in readers)
        if has_low_bits and is_cut:
            last_layers, has_low_bits = [*last_layers, _name(layer)], False
        last_reader = max([last_reader, *(numbers[reader.name] for reader in readers)])
    return [*last_layers, _name(simulation.layers[-1])] if has_low_bits else last_layers


def _name(layer: Any) -> str:
    """A layer's name before it was wrapped."""
    return layer.layer.name if is_wrapper(layer) else layer.name


def _learned(layer: Any) -> Any:
    """The rounding of a low-bit kernel, or None: eight bits leave a block nothing to mend."""
    learned = layer.quantize_config.learned if is_wrapper(layer) else None
    return learned if learned and learned.bits < 8 else None


def _starts_block(layer: Any) -> bool:
    inner = layer.layer if is_wrapper(layer) else layer
    return type(inner) in (keras.layers.Conv2D, keras.layers.Dense)


def _outputs(model: keras.Model) -> dict[str, Any]:
    return {_name(layer): layer.output for layer in model.layers}


def _run(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    return training.run_keras(model, inputs, np.asarray, batch=32)


def _error(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean(_per_image(np.square(outputs - targets)) / _power(targets)))


def _per_image(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).mean(axis=1)


def _power(targets: np.ndarray) -> np.ndarray:
    """The unit of each image's errors, (n,): one extreme image would outweigh all others."""
    return np.maximum(_per_image(np.square(targets)), 1e-12)


def _train(
    block: keras.Model,
    inputs: np.ndarray,
    targets: np.ndarray,
    steps: int,
    batch: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> None:
    """Train the block's low-bit kernels, in units of their scales.

    A weight is near to its next code or it is not, whatever the scale of its channel.
    """
    trained = [layer for layer in block.layers if _learned(layer)]
    kernels = [float_weights(layer)[0] for layer in trained]
    scales = [tf.constant(_learned(layer).scales(None)) for layer in trained]
    # Codes are clipped to the largest one: beyond it no gradient leads back.
    largest_codes = [float(qmax(_learned(layer).bits)) for layer in trained]
    codes = [
        tf.Variable(tf.round(kernel / scale)) for kernel, scale in zip(kernels, scales, strict=True)
    ]
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps))
    optimizer.build(codes)
    weight = (1 / _power(targets)).astype(np.float32).reshape(-1, *(1,) * (targets.ndim - 1))

    @tf.function
    def step(x: Any, y: Any, weight: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(weight * tf.square(block(x, training=True) - y))
        gradients = zip(tape.gradient(loss, kernels), scales, codes, strict=True)
        optimizer.apply_gradients([(gradient * scale, code) for gradient, scale, code in gradients])
        for kernel, scale, code, largest in zip(kernels, scales, codes, largest_codes, strict=True):
            kernel.assign(code.assign(tf.clip_by_value(code, -largest, largest)) * scale)

    for _ in range(steps):
        drawn = rng.choice(len(inputs), min(batch, len(inputs)), replace=False)
        step(tf.constant(inputs[drawn]), tf.constant(targets[drawn]), tf.constant(weight[drawn]))
