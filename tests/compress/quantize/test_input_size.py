import pytest
from small_study import int8_of, make_study

from edgeq_lib.compress.quantize import input_size
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.weights import save_float_model
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.runtime import make_interpreter


@pytest.fixture
def sample(tmp_path, pictures, small_net):
    model, float32 = small_net
    study = make_study(tmp_path, pictures, float32, int8_of(float32, pictures))
    save_float_model(study, model)
    study.write("baseline", {"model": "resnet8", "alpha": 0.25, "preprocessing": SIGNED.record()})
    return study


def test_the_same_weights_at_another_size(sample, small_net):
    files = input_size.files_at(sample, 24)
    for name, compute in (("float32", "float32"), ("int8", "integer")):
        shape = make_interpreter(files[name]).get_input_details()[0]["shape"]
        assert shape.tolist() == [1, 24, 24, 3]
        assert inspect_file(files[name])["compute"] == compute
    assert abs(len(files["float32"]) / len(small_net[1]) - 1) < 0.05, (
        "weights do not grow with the image"
    )


def test_a_network_of_the_users_own_is_known_at_one_size_only(sample):
    assert input_size.sizes(sample, [1, 2, 3.5]) == [8, 16, 28]
    sample.write(
        "baseline",
        {"model": "/somewhere/mine.keras", "alpha": 1.0, "preprocessing": SIGNED.record()},
    )
    assert input_size.sizes(sample, [1, 2, 3.5]) == []


def test_too_small_a_size_is_refused_with_the_cure(sample):
    with pytest.raises(EdgeqError, match="at least 8 pixels"):
        input_size.files_at(sample, 4)
