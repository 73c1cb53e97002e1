"""Which variant to ship: rows in, rows out, no files, no TensorFlow."""
