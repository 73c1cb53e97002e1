"""TensorFlow Lite flatbuffers: read, rewritten, written and run, without TensorFlow."""
