"""Blocks trained towards the outputs that they have in float."""

import numpy as np
import pytest
import tf_keras as keras
from qat_networks import fit, scenes, squeeze_excite, tiny

from edgeq_lib.compress.quantize import (
    block_reconstruction,
    calibration,
    fake_quant,
    qat,
    qat_export,
    quantized_weights,
)
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import fold_batch_norms
from edgeq_lib.tflite.rewrite import as_dense


def test_block_reconstruction_brings_each_block_nearer_to_float_and_moves_low_bit_kernels_only():
    keras.utils.set_random_seed(0)
    model = fold_batch_norms(fit(squeeze_excite(), 5e-3, epochs=2))
    calibration_set, flat = scenes(64)[0], as_dense(convert(model))
    bits = {
        kernel.name: 2 for kernel in float_kernels(flat)[1:] if kernel.kind == "FULLY_CONNECTED"
    }
    grids = qat_export.kernels_by_layer(
        model,
        flat,
        quantized_weights.round_all_to_nearest(
            flat, calibration.calibrate(flat, calibration_set, (-1.0, 1.0)), bits
        ),
    )
    aware = qat.quantize_aware(model, calibration_set, grids)
    before = {
        wrapper.layer.name: [value.numpy() for value in fake_quant.float_weights(wrapper)]
        for wrapper in fake_quant.wrappers(aware)
    }
    found = block_reconstruction.reconstruct(
        aware, model, calibration_set, steps=300, learning_rate=3e-2
    )
    assert [each["block"] for each in found] == block_reconstruction.blocks_of(aware) and len(
        found
    ) >= 2
    assert np.mean([each["after"] / each["before"] for each in found]) < 0.9
    moved = {
        wrapper.layer.name
        for wrapper in fake_quant.wrappers(aware)
        for old, new in zip(
            before[wrapper.layer.name], fake_quant.float_weights(wrapper), strict=True
        )
        if not np.array_equal(old, new.numpy())
    }
    assert moved and moved <= set(grids)


@pytest.fixture(scope="module")
def two_bit_head():
    """(float model, the rounding of its dense layer to 2 bits, calibration images)"""
    keras.utils.set_random_seed(0)
    model = fold_batch_norms(tiny())
    images, flat = scenes(32)[0], as_dense(convert(model))
    ranges = calibration.calibrate(flat, images, (-1.0, 1.0))
    bits = {float_kernels(flat)[-1].name: 2}
    grids = quantized_weights.round_all_to_nearest(flat, ranges, bits)
    return model, qat_export.kernels_by_layer(model, flat, grids), images


def test_blocks_end_where_a_low_bit_kernel_has_been_passed(two_bit_head):
    model, grids, images = two_bit_head
    aware = qat.quantize_aware(model, images, grids)
    assert block_reconstruction.blocks_of(aware) == [model.layers[-1].name]
    eight = qat.quantize_aware(model, images)
    assert block_reconstruction.blocks_of(eight) == [], "eight bits leave nothing to mend"
    assert block_reconstruction.reconstruct(eight, model, images, steps=1) == []


def test_a_block_that_gets_no_nearer_to_float_keeps_its_codes(two_bit_head):
    model, grids, images = two_bit_head
    aware = qat.quantize_aware(model, images, grids)
    before = [weights.copy() for weights in aware.get_weights()]
    (record,) = block_reconstruction.reconstruct(aware, model, images, steps=2, learning_rate=1e4)
    assert record["after"] == record["before"] > 0
    assert all(np.array_equal(*pair) for pair in zip(before, aware.get_weights(), strict=True))


def test_the_seed_decides_the_order_of_images(two_bit_head):
    model, grids, images = two_bit_head

    def codes(seed):
        aware = qat.quantize_aware(model, images, grids)
        block_reconstruction.reconstruct(
            aware, model, images, steps=20, batch=4, learning_rate=0.1, seed=seed
        )
        return fake_quant.float_weights(fake_quant.wrappers(aware)[-1])[0].numpy()

    first = codes(1)
    assert np.array_equal(first, codes(1)) and not np.array_equal(first, codes(2))
