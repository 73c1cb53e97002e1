"""Rewriting Keras graphs: each rewrite must compute the same function, and bad models must be
named.
"""

import numpy as np
import pytest
import tf_keras as keras

from edgeq_lib.files import EdgeqError
from edgeq_lib.models.graph import (
    activation_name,
    check_flat,
    expand_activations,
    fold_batch_norms,
    identity,
    layer_census,
    rebuild,
)

layers = keras.layers


def shake(model, seed=0):
    """Give every batch norm statistics that matter; a fresh one is the identity."""
    noise = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights(
                [noise.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()]
            )
    return model


def images(n=3):
    return np.random.default_rng(1).normal(size=(n, 12, 12, 3)).astype(np.float32)


def assert_same_function(model, other):
    expected, found = (
        model(images(), training=False).numpy(),
        other(images(), training=False).numpy(),
    )
    assert np.abs(expected - found).max() <= 1e-5 * np.abs(expected).max()


def small(**norm):
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.Activation("swish", name="stem_swish")(layers.BatchNormalization(**norm)(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise")(x)
    shortcut = x = layers.ReLU(6.0)(layers.BatchNormalization(**norm)(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(4, 1, activation="swish", name="reduce")(gate)
    gate = layers.Conv2D(16, 1, activation="sigmoid", name="expand")(gate)
    x = layers.Add()([layers.Multiply()([x, gate]), shortcut])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.BatchNormalization(**norm)(layers.Dense(6, name="head")(x))
    return shake(keras.Model(inputs, x))


@pytest.mark.parametrize(
    "norm", [{}, {"scale": False}, {"center": False}, {"scale": False, "center": False}]
)
def test_folding_is_exact_and_leaves_no_batch_norm(norm):
    model = small(**norm)
    folded = fold_batch_norms(model)
    assert layer_census(model)["BatchNormalization"] == 3
    assert "BatchNormalization" not in layer_census(folded)
    assert_same_function(model, folded)


def test_folding_keeps_what_it_cannot_fold():
    inputs = keras.Input((12, 12, 3))
    before = layers.BatchNormalization()(inputs)  # behind no convolution
    shared = layers.Conv2D(4, 3, name="two_readers")(before)
    active = layers.Conv2D(4, 3, activation="relu", name="active")(before)
    parts = [layers.BatchNormalization()(shared), shared, layers.BatchNormalization()(active)]
    model = shake(keras.Model(inputs, layers.Add()(parts)))
    folded = fold_batch_norms(model)
    assert layer_census(folded)["BatchNormalization"] == 3
    assert_same_function(model, folded)


def test_folding_keeps_a_convolution_that_is_an_output_or_called_twice():
    inputs = keras.Input((12, 12, 3))
    twice = layers.Conv2D(3, 3, padding="same")
    x = layers.BatchNormalization()(twice(twice(inputs)))
    seen = layers.Conv2D(4, 3)(x)
    model = shake(keras.Model(inputs, [layers.BatchNormalization()(seen), seen]))
    folded = fold_batch_norms(model)
    assert layer_census(folded)["BatchNormalization"] == 2
    for expected, found in zip(model(images()), folded(images()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_original_is_left_alone():
    model = small()
    before = [weight.copy() for weight in model.get_weights()]
    outputs = model(images(), training=False).numpy()
    expand_activations(fold_batch_norms(model))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert np.array_equal(outputs, model(images(), training=False).numpy())


def test_activations_become_layers_where_litert_has_an_op_for_them():
    model = small()
    expanded = expand_activations(model)
    names = {activation_name(layer) for layer in expanded.layers}
    assert names == {"linear", "sigmoid", "relu6"}
    assert layer_census(expanded)["Multiply"] == 3  # the gate, and two swishes
    assert activation_name(expanded.get_layer("expand")) == "linear"
    assert_same_function(model, expanded)


def test_rebuild_replaces_expands_removes_and_keeps_the_batch_open():
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 1, name="pointwise"),
            layers.Dropout(0.5),
            layers.ReLU(name="relu"),
        ]
    )

    def replace(layer):
        if layer.name == "pointwise":  # a 1 x 1 convolution is a Dense layer over pixels
            kernel, bias = layer.get_weights()
            dense = layers.Dense(4, name="pointwise")
            dense.build((None, 12, 12, 3))
            dense.set_weights([kernel[0, 0], bias])
            return dense
        return identity if isinstance(layer, layers.Dropout) else None

    copy = rebuild(model, replace)
    assert layer_census(copy) == {"InputLayer": 1, "Dense": 1, "ReLU": 1}
    assert copy.input_shape[0] is None
    assert_same_function(model, copy)


def test_rebuild_copies_preprocessing_and_operator_layers():
    inputs = keras.Input((12, 12, 3))
    x = layers.Normalization(name="normal")(layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 3)(x * 2.0 + 1.0))
    model.get_layer("normal").set_weights(
        [np.float32([1, 2, 3]), np.float32([4, 5, 6]), np.int64(1)]
    )
    model.get_layer("normal").finalize_state()
    assert_same_function(model, rebuild(model, lambda layer: None))


def test_a_nested_model_is_named():
    inner = keras.Sequential([keras.Input((12, 12, 3)), layers.Conv2D(4, 3)], name="backbone")
    inputs = keras.Input((12, 12, 3))
    with pytest.raises(EdgeqError, match=r"contains the model 'backbone' .* backbone\.output"):
        check_flat(keras.Model(inputs, layers.Flatten()(inner(inputs))))


def test_a_keras_3_model_is_refused_with_its_cure():
    keras3 = pytest.importorskip("keras", minversion="3")
    model = keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(2)])
    with pytest.raises(EdgeqError, match="Keras 3 .*tf_keras"):
        check_flat(model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_unsound_weights_are_named(value):
    model = small()
    kernel, bias = model.get_layer("head").get_weights()
    kernel[0, 0] = value
    model.get_layer("head").set_weights([kernel, bias])
    with pytest.raises(EdgeqError, match="'head' holds NaN or infinite"):
        check_flat(model)


def test_models_without_a_graph_are_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(EdgeqError, match="subclassed"):
        check_flat(Subclassed())
    with pytest.raises(EdgeqError, match="not built yet"):
        check_flat(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(EdgeqError, match="not a Keras model"):
        check_flat({"a": 1})


def test_a_norm_behind_a_transposed_convolution_is_folded_exactly():
    """Its kernel is (h, w, out, in); with as many channels in as out, a wrong axis goes unseen."""
    keras.utils.set_random_seed(3)
    image = keras.Input((6, 6, 5))
    tensor = keras.layers.Conv2DTranspose(5, 3, 2, "same", use_bias=False)(image)
    norm = keras.layers.BatchNormalization()
    model = keras.Model(image, keras.layers.ReLU()(norm(tensor)))
    random = np.random.default_rng(0)
    norm.set_weights([random.uniform(0.5, 2.0, 5) for _ in range(4)])
    folded, pictures = fold_batch_norms(model), random.normal(size=(4, 6, 6, 5))
    assert "BatchNormalization" not in layer_census(folded)
    wanted, found = (each.predict(pictures, verbose=0) for each in (model, folded))
    assert np.abs(wanted - found).max() < 1e-5


def test_attention_is_copied_with_its_weights():
    keras.utils.set_random_seed(4)
    image = keras.Input((5, 8))
    tensor = keras.layers.MultiHeadAttention(2, 4)(image, image)
    model = keras.Model(image, keras.layers.Dense(3)(tensor))
    sequence = np.random.default_rng(1).normal(size=(4, 5, 8))
    copy = fold_batch_norms(model)
    assert np.allclose(model.predict(sequence, verbose=0), copy.predict(sequence, verbose=0))
