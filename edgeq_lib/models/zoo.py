"""The zoo: a name becomes a flat functional float model with its own preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq_lib.files import EdgeqError
from edgeq_lib.models.graph import check_flat, identity, rebuild
from edgeq_lib.models.inputs import fit_to_images
from edgeq_lib.models.preprocessing import CAFFE, SIGNED, TORCH, Preprocessing, preprocessing_of
from edgeq_lib.models.tf import keras
from edgeq_lib.models.weights import copy_weights, imagenet_weights, load_own_model

layers = keras.layers


def resnet8(input_shape: tuple[int, int, int], classes: int, alpha: float = 1.0) -> keras.Model:
    """Build the image-classification network of MLPerf Tiny: three residual stacks.

    Banbury et al., arXiv 2106.07597.

    Args:
        input_shape: (height, width, channels).
        classes: Number of outputs, which are logits.
        alpha: Scales the widths 16, 32 and 64.

    Returns:
        The model, with fresh weights.
    """

    def conv(x: Any, width: int, size: int, stride: int, name: str) -> Any:
        return layers.Conv2D(
            width,
            size,
            stride,
            "same",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.l2(1e-4),
            name=name,
        )(x)

    def norm(x: Any, name: str, active: bool = True) -> Any:
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x) if active else x

    image = keras.Input(input_shape, name="image")
    x = norm(conv(image, round(16 * alpha), 3, 1, "stem"), "stem")
    for stack, width in enumerate((round(16 * alpha), round(32 * alpha), round(64 * alpha)), 1):
        stride = 1 if stack == 1 else 2
        y = norm(conv(x, width, 3, stride, f"stack{stack}_a"), f"stack{stack}_a")
        y = norm(conv(y, width, 3, 1, f"stack{stack}_b"), f"stack{stack}_b", active=False)
        x = x if stack == 1 else conv(x, width, 1, stride, f"stack{stack}_shortcut")
        x = layers.ReLU(name=f"stack{stack}_out")(layers.Add(name=f"stack{stack}_add")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(
        image,
        layers.Dense(classes, kernel_initializer="he_normal", name="logits")(x),
        name="resnet8",
    )


@dataclass(frozen=True)
class Entry:
    """One architecture of the zoo.

    Attributes:
        build: Makes the model.
        preprocessing: How its input is scaled.
        imagenet: The preprocessing of its official weights, where that is another one.
        smallest: Least pixels of the shorter side.
        scales: It takes `alpha`.
        pretrained: There are official ImageNet weights.
        options: Further arguments of `build`.
    """

    build: Callable[..., keras.Model]
    preprocessing: Preprocessing
    imagenet: Preprocessing | None = None
    smallest: int = 32
    scales: bool = False
    pretrained: bool = True
    options: tuple[tuple[str, Any], ...] = ()


_apps = keras.applications
ZOO = {
    "resnet8": Entry(resnet8, SIGNED, smallest=8, scales=True, pretrained=False),
    "mobilenet": Entry(_apps.MobileNet, SIGNED, scales=True),
    "mobilenetv2": Entry(_apps.MobileNetV2, SIGNED, scales=True),
    "mobilenetv3small": Entry(
        _apps.MobileNetV3Small, SIGNED, scales=True, options=(("include_preprocessing", False),)
    ),
    "efficientnetb0": Entry(_apps.EfficientNetB0, TORCH),
    "efficientnetv2b0": Entry(
        _apps.EfficientNetV2B0, SIGNED, imagenet=TORCH, options=(("include_preprocessing", False),)
    ),
    "resnet50": Entry(_apps.ResNet50, CAFFE),
    "inceptionv3": Entry(_apps.InceptionV3, SIGNED, smallest=75),
}


def build(
    name: str, input_shape: tuple[int, int, int], classes: int, alpha: float = 1.0
) -> keras.Model:
    """Build a zoo model with fresh weights and logits as output.

    Args:
        name: A key of `ZOO`.
        input_shape: (height, width, channels).
        classes: Number of outputs.
        alpha: The network's width, for architectures that scale.

    Returns:
        The model.

    Raises:
        EdgeqError: For an unknown name, too small an image, or a width that this architecture does
            not have.
    """
    if name not in ZOO:
        raise EdgeqError(
            f"There is no model '{name}' in the zoo; take one of {', '.join(ZOO)}, or name a "
            "Keras file."
        )
    entry = ZOO[name]
    if min(input_shape[:2]) < entry.smallest:
        raise EdgeqError(
            f"{name} needs images of at least {entry.smallest} pixels, not {min(input_shape[:2])}; "
            "raise image_size in the section 'data'."
        )
    if alpha != 1.0 and not entry.scales:
        raise EdgeqError(f"{name} has one width only; leave alpha out.")
    scale = {"alpha": alpha} if entry.scales else {}
    if name == "resnet8":
        return resnet8(input_shape, classes, **scale)
    keras.backend.clear_session()  # layer names count up otherwise, and weights are copied by name
    model = entry.build(
        weights=None,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=None,
        **scale,
        **dict(entry.options),
    )
    if name == "efficientnetb0":
        model = _without_input_scaling(model)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            # At 0.99 and 0.999 the statistics lag behind the weights for many epochs on small data
            layer.momentum = 0.9
    return model


def _without_input_scaling(model: keras.Model) -> keras.Model:
    """Take out EfficientNetB0's own input scaling: here it is the preprocessing's work."""
    scaling = layers.Rescaling | layers.Normalization
    return rebuild(model, lambda layer: identity if isinstance(layer, scaling) else None)


def obtain(
    name: str,
    weights: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    alpha: float = 1.0,
    preprocessing: str | dict | None = None,
    trusted: bool = False,
    seed: int = 0,
    trained: str | None = None,
) -> tuple[keras.Model, Preprocessing | None, list[str]]:
    """Obtain the float model of a study.

    Args:
        name: A zoo name or a Keras file.
        weights: "imagenet", "none" or a weights file; for zoo names only.
        input_shape: (height, width, channels) of the study's images.
        classes: Number of its classes.
        alpha: The network's width.
        preprocessing: See `preprocessing_of`; None for the zoo's own.
        trusted: See `weights.load_own_model`.
        seed: Decides the initial weights.
        trained: A weights file that an earlier training of this model gave: it stands in for
            `weights`, and must hold every layer.

    Returns:
        The flat model, its preprocessing (None for a file of the user's own with none stated), and
        a line for each layer whose weights were not loaded.

    Raises:
        EdgeqError: When the model is nested, of Keras 3, holds NaN, or does not fit the images or
            the number of classes.
    """
    missing: list[str] = []
    stated = preprocessing_of(preprocessing, input_shape[2])
    if name in ZOO:
        keras.utils.set_random_seed(seed)
        model = build(name, input_shape, classes, alpha)
        if weights != "none" and not trained:
            missing = copy_weights(model, _weights_file(name, weights, input_shape[0], alpha))
    else:
        if "/" not in name and not Path(name).exists():
            build(name, input_shape, classes)  # raises: no such name
        model = fit_to_images(load_own_model(Path(name), trusted), input_shape)
    _check_fits(model, input_shape, classes)
    if trained:
        missing = copy_weights(model, Path(trained), complete=True)
    return model, stated or _usual_preprocessing(name, weights), missing


def _weights_file(name: str, weights: str, size: int, alpha: float) -> Path:
    return imagenet_weights(name, size, alpha) if weights == "imagenet" else Path(weights)


def _check_fits(model: keras.Model, input_shape: tuple[int, int, int], classes: int) -> None:
    """Raise where a model is nested, or does not fit the images or the number of classes."""
    check_flat(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.output_shape) != 2:
        raise EdgeqError(
            "The model must map one image to one row of class scores; this one has "
            f"{len(model.inputs)} inputs and outputs of shape {model.output_shape}."
        )
    if tuple(model.input_shape[1:]) != tuple(input_shape):
        raise EdgeqError(
            f"The model wants images of {model.input_shape[1:]} and the data have "
            f"{tuple(input_shape)}; {_cure(model.input_shape[1:])}."
        )
    if model.output_shape[-1] != classes and (model.output_shape[-1], classes) != (1, 2):
        raise EdgeqError(
            f"The model has {model.output_shape[-1]} outputs and the data have {classes} classes; "
            "take a model with as many, or correct the class folders."
        )


def _cure(wanted: tuple[int | None, ...]) -> str:
    """How a study gives images of the shape that a model wants."""
    if len(wanted) == 3 and wanted[2] in (1, 3) and wanted[0] != 1:
        sides = f"image_size: [{wanted[0]}, {wanted[1]}], " if None not in wanted else ""
        return f"set {sides}channels: {wanted[2]} in the section 'data'"
    if len(wanted) == 2 and None not in wanted:
        return f"set image_size: [{wanted[0]}, {wanted[1]}], channels: 1 in the section 'data'"
    return "give a model whose input is one image (height, width, 1 or 3 channels)"


def _usual_preprocessing(name: str, weights: str) -> Preprocessing | None:
    entry = ZOO.get(name)
    if entry is None:
        return None
    return (entry.imagenet if weights == "imagenet" else None) or entry.preprocessing


def is_random(name: str, weights: str, trained: str | None, history: list) -> bool:
    """Tell whether the user asked for untrained weights of a zoo model.

    Args:
        name: See `obtain`, as all but the last.
        weights: "none" for fresh weights.
        trained: A weights file that stands in for them.
        history: The epochs that were trained.
    """
    return name in ZOO and weights == "none" and not trained and not history
