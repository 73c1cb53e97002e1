"""Fake quantization: what LiteRT's int8 kernels compute, written as tfmot quantizers.

A kernel is rounded per output channel, its bias in the scales of int32, an activation to its
calibrated range; nothing is rounded between an operation and the relu that LiteRT fuses into it
(Jacob et al., arXiv 1712.05877).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq_lib.compress.quantize.quantized_weights import QuantizedWeights, qmax
from edgeq_lib.models.graph import WITH_KERNEL
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.tflite.quiet import quiet


def is_wrapper(layer: Any) -> bool:
    """Tell whether a layer of a model of `quantize_aware` is one that tfmot wrapped."""
    return isinstance(layer, tfmot.QuantizeWrapperV2)


def wrappers(model: keras.Model) -> list:
    """List the wrapped layers of a model of `quantize_aware`, in the order of the graph."""
    return [layer for layer in model.layers if is_wrapper(layer)]


def float_weights(wrapper: Any) -> list:
    """List the variables of a wrapped layer, in its own order; the wrapper holds them."""
    learned = wrapper.quantize_config.learned
    return [
        variable
        for variable in wrapper.trainable_weights or wrapper.layer.weights
        if not learned or variable is not learned.variable
    ]


with quiet():
    from tensorflow_model_optimization.quantization import keras as tfmot


def kernel_name(layer: Any) -> str | None:
    """Name the attribute that holds a layer's kernel; None when it has none."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return "depthwise_kernel"
    return "kernel" if isinstance(layer, WITH_KERNEL) else None


class Rounding(tfmot.quantizers.Quantizer):
    """A tfmot quantizer without variables.

    QAT models are saved as weights and built again from their float model, so none has a
    configuration.
    """

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict:
        """The variables: none."""
        return {}

    def get_config(self) -> dict:
        """Nothing to build it again from."""
        return {}


class ChannelWeights(Rounding):
    """Symmetric int8 weights, one scale per output channel, from the weights as they are now.

    Without state, so evaluation sees what export writes (tfmot's own lags by one step), and per
    channel in depthwise kernels too (tfmot's own is per tensor there).
    """

    def __init__(self, channels: int):
        self.channels = channels

    def __call__(self, inputs: Any, training: Any, weights: dict, **kwargs: Any) -> Any:
        """The kernel as int8 holds it; the gradient passes unchanged."""
        flat, bound = tf.reshape(inputs, (-1, self.channels)), self.scales(inputs) * 127
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            flat, -bound, bound, narrow_range=True
        )
        return tf.reshape(rounded, tf.shape(inputs))

    def scales(self, kernel: Any) -> Any:
        """Compute the scale of each output channel; a depthwise kernel has c * m of them."""
        largest = tf.reduce_max(tf.abs(tf.reshape(kernel, (-1, self.channels))), axis=0)
        return tf.stop_gradient(tf.maximum(largest, 1e-9) / 127)


class LearnedScales(Rounding):
    """Symmetric weights whose scales are trained with them (Esser et al., arXiv 1902.08153).

    At few bits, what is clipped and what is coarsened must be weighed channel by channel, and
    training can. Scales that are powers of two at the start stay powers of two.
    """

    def __init__(self, quantized: QuantizedWeights):
        self.bits, self.start, self.variable = quantized.bits, quantized.scales, None
        self.shifts = bool((np.frexp(quantized.scales)[0] == 0.5).all())

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict:
        """Make the scales, one per channel, saved and trained with the model's weights."""
        self.variable = layer.add_weight(
            f"{name}_steps",  # as it is called in stored weights
            shape=self.start.shape,
            trainable=True,
            initializer=keras.initializers.Constant(self.start.astype(np.float32)),
        )
        return {"steps": self.variable}

    def __call__(self, inputs: Any, training: Any, weights: dict, **kwargs: Any) -> Any:
        """Return the kernel as the file holds it; gradients pass where nothing is clipped."""
        scales, largest_code = self._damped_scales(inputs), float(qmax(self.bits))
        flat = tf.reshape(inputs, (-1, self.start.size)) / scales
        inside = tf.clip_by_value(flat, -largest_code, largest_code)
        codes = inside + tf.stop_gradient(tf.round(inside) - inside)
        return tf.reshape(codes * scales, tf.shape(inputs))

    def _damped_scales(self, kernel: Any) -> Any:
        """The scales, gradients damped by the number of weights that share one."""
        share = 1 / np.sqrt(np.prod(kernel.shape) / self.start.size * qmax(self.bits))
        positive = tf.maximum(self.variable, 1e-9)
        return positive * share + tf.stop_gradient(self.scales(kernel) - positive * share)

    def scales(self, kernel: Any) -> Any:
        """Compute the scale of each output channel."""
        positive = tf.maximum(self.variable, 1e-9)
        return tf.stop_gradient(
            tf.pow(2.0, tf.round(tf.math.log(positive) / np.log(2))) if self.shifts else positive
        )


class BiasScales(Rounding):
    """A bias in units of input scale × weight scale, as int32 holds it.

    Too fine to cost accuracy, but left out it makes one activation in a thousand differ from the
    file, and deep networks amplify that.
    """

    def __init__(self, kernel: Any, weights: ChannelWeights | LearnedScales, source: Any):
        self.kernel, self.weights, self.source = kernel, weights, source

    def __call__(self, inputs: Any, training: Any, weights: dict, **kwargs: Any) -> Any:
        """The bias as int32 holds it; the gradient passes unchanged."""
        low, high = self.source.bounds()
        scale = self.weights.scales(self.kernel) * tf.stop_gradient(high - low) / 255
        codes = tf.clip_by_value(tf.round(inputs / scale), -(2.0**31), 2.0**31)
        return inputs + tf.stop_gradient(codes * scale - inputs)


class FixedRange(Rounding):
    """int8 activations on a range that LiteRT's kernel fixes."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def __call__(self, inputs: Any, training: Any, weights: dict, **kwargs: Any) -> Any:
        """The values as int8 holds them."""
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high)

    def bounds(self) -> tuple[float, float]:
        """The range."""
        return self.low, self.high


class CalibratedRange(Rounding):
    """Asymmetric int8 activations on a range that calibration set and training keeps.

    Not a moving average, nor extremes that grow in training: one outlier image would ruin either.
    """

    def __init__(self, low: float, high: float):
        self.low, self.high = min(low, 0.0), max(high, 0.0)
        self.variables: dict[str, Any] = {}
        if self.high - self.low < 1e-6:  # always 0 in calibration, but not in training
            self.low, self.high = 0.0, 1.0

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict:
        """Two scalars, saved with the model's weights."""
        self.variables = {
            bound: layer.add_weight(
                f"{name}_{bound}", initializer=keras.initializers.Constant(value), trainable=False
            )
            for bound, value in (("min", self.low), ("max", self.high))
        }
        return self.variables

    def __call__(self, inputs: Any, training: Any, weights: dict, **kwargs: Any) -> Any:
        """The values as int8 holds them; the gradient passes where nothing is clipped."""
        return tf.quantization.fake_quant_with_min_max_vars(inputs, weights["min"], weights["max"])

    def bounds(self) -> tuple[Any, Any]:
        """The range now, as variables."""
        return self.variables["min"], self.variables["max"]


class PooledRange(Rounding):
    """Averages, in the scale of what was averaged.

    Halves are common there, and LiteRT rounds them away from its integer zero, which fake
    quantization does not.
    """

    def __init__(self, source: Any):
        self.source = source

    def __call__(self, inputs: Any, training: Any, weights: dict, **kwargs: Any) -> Any:
        """The averages as int8 holds them; the gradient passes unchanged."""
        low, high = self.source.bounds()
        scale = (high - low) / 255
        zero_point = tf.round(-128 - low / scale)
        exact = inputs / scale + zero_point
        # 0.501, since a half may come out of float32 as 0.49999
        codes = tf.sign(exact) * tf.floor(tf.abs(exact) + 0.501)
        return inputs + tf.stop_gradient((codes - zero_point) * scale - inputs)

    def bounds(self) -> tuple[Any, Any]:
        """The range of the source."""
        return self.source.bounds()


class NoRounding(tfmot.QuantizeConfig):
    """The no-op config."""

    def get_weights_and_quantizers(self, layer: Any) -> list:
        """Weights to round."""
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list) -> None:
        """Let the layer compute with the rounded weights."""

    def get_activations_and_quantizers(self, layer: Any) -> list:
        """Activation functions to round: none, here they are layers of their own, or fused."""
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list) -> None:
        """Let the layer compute with the rounded activation functions."""

    def get_output_quantizers(self, layer: Any) -> list:
        """The output's quantizer, in a list."""
        return []

    def get_config(self) -> dict:
        """Nothing to build it again from."""
        return {}


class LayerConfig(NoRounding):
    """What tfmot's wrapper rounds in one layer.

    Kernel and bias when there are any, and the output when it is a tensor in the flatbuffer, which
    is when its quantizer is given. `source` is the quantizer of the layer's input, `quantized` what
    a low-bit kernel starts from.
    """

    def __init__(
        self, output: Any = None, source: Any = None, quantized: QuantizedWeights | None = None
    ):
        self.output, self.source = output, source
        self.learned = LearnedScales(quantized) if quantized else None
        self.kernel: Rounding | None = None  # of the layer's kernel, once it is wrapped

    def get_weights_and_quantizers(self, layer: Any) -> list:
        """Kernel and bias."""
        name = kernel_name(layer)
        if name is None:
            return []
        kernel = getattr(layer, name)
        self.kernel = self.learned or ChannelWeights(
            int(np.prod(kernel.shape[2:])) if name == "depthwise_kernel" else kernel.shape[-1]
        )
        bias = (
            [(layer.bias, BiasScales(kernel, self.kernel, self.source))] if layer.use_bias else []
        )
        return [(kernel, self.kernel), *bias]

    def set_quantize_weights(self, layer: Any, quantize_weights: list) -> None:
        """Let the layer compute with the rounded weights."""
        for name, weight in zip((kernel_name(layer) or "", "bias"), quantize_weights, strict=False):
            setattr(layer, name, weight)

    def get_output_quantizers(self, layer: Any) -> list:
        """The output's quantizer, in a list."""
        return [self.output] if self.output else []
