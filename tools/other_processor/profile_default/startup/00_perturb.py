"""Compute as another processor would: `make test-elsewhere` starts every kernel with this.

Three things differ between processors, and each is made to differ here: LiteRT's kernels round in
another way, a training ends elsewhere, and latencies have nothing in common. What a notebook's
checked cells show must not depend on any of them.
"""

import os
import random

import wrapt

_RANDOM = random.Random(int(os.environ.get("EDGEQ_PERTURBATION", "1")))


@wrapt.when_imported("edgeq_lib.tflite.runtime")
def _other_kernels(runtime):
    original = runtime.make_interpreter

    def make_interpreter(model, threads=1, keep_tensors=False, xnnpack=True):
        """LiteRT's own kernels in the place of XNNPACK's."""
        return original(model, threads, keep_tensors, xnnpack=False)

    runtime.make_interpreter = make_interpreter


@wrapt.when_imported("edgeq_lib.models.tf")
def _other_training(module):
    original = module.keras.utils.set_random_seed
    module.keras.utils.set_random_seed = lambda seed: original(seed + 1 + _RANDOM.randrange(1000))


@wrapt.when_imported("edgeq_lib.measure.standalone")
def _other_latencies(standalone):
    original = standalone._turn

    def turn(interpreter, times, batch):
        """Milliseconds that say nothing: a factor of a tenth to ten for each turn."""
        factor = 10 ** _RANDOM.uniform(-1, 1)
        return [factor * spent for spent in original(interpreter, times, batch)]

    standalone._turn = turn
