"""What a file answers, in float, and how often two files say the same."""

import numpy as np

from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images


def outputs(model, images):
    interpreter = make_interpreter(model)
    return dequantize_array(run_images(interpreter, images), interpreter.get_output_details()[0])


def agreement(model, other, images):
    return np.mean(outputs(model, images).argmax(-1) == outputs(other, images).argmax(-1))
