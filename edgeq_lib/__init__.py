"""edgeq: make image models small and fast enough for edge devices, and measure what it costs."""

import os
import warnings

# TensorFlow reads this when it is first imported; its information lines would end up in notebooks.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", module="tf_keras")
