"""Silence."""

import os

from edgeq_lib.tflite.quiet import quiet


def test_native_output_is_silenced_and_comes_back(capfd):
    with quiet():
        os.write(1, b"from C++")
        os.write(2, b"from C++")
        print("from Python")
    os.write(1, b"after")
    assert capfd.readouterr() == ("after", "")
