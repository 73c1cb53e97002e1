"""TensorFlow and tf_keras, imported without their noise.

tf_keras is Keras 2, the only one that tensorflow-model-optimization takes. Both greet on standard
error from C++ and log from Python, which would be stored in the notebooks.
"""

from edgeq_lib.tflite.quiet import quiet

with quiet():
    import tensorflow as tf
    import tf_keras as keras

tf.get_logger().setLevel("ERROR")
tf.autograph.set_verbosity(0)

__all__ = ["keras", "tf"]
