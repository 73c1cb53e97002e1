"""Images shared among threads: results do not depend on how many there are."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny_files import tiny_files

from edgeq_lib.tflite.pool import (
    SUM_CHUNK,
    InterpreterPool,
    chunks,
    open_executor,
    sum_over_images,
)
from edgeq_lib.tflite.runtime import make_interpreter, run_images

IMAGES = np.random.default_rng(0).normal(size=(37, 8, 8, 3)).astype(np.float32)
WORKERS = [1, 2, 3, 7]


def output(interpreter) -> np.ndarray:
    (detail,) = interpreter.get_output_details()
    return interpreter.get_tensor(detail["index"])[0]


def test_chunks_cover_all_images_once_and_in_order():
    indices = list(range(37))
    parts = [indices[part] for part in chunks(37, 8)]
    assert sum(parts, []) == indices and [len(part) for part in parts] == [8, 8, 8, 8, 5]
    assert chunks(0, 8) == []


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("threads", WORKERS)
def test_results_come_in_the_order_of_the_images(workers, threads):
    """With fewer interpreters than threads, tasks wait for an idle one."""
    model = tiny_files()["int8"]
    plain = run_images(make_interpreter(model), IMAGES)
    pool = InterpreterPool([model], workers)
    with open_executor(None, threads) as executor:
        parts = pool.map(
            lambda interpreters, part: run_images(interpreters[0], IMAGES[part]),
            chunks(len(IMAGES), 4),
            executor,
        )
        np.testing.assert_array_equal(np.concatenate(list(parts)), plain)


@pytest.mark.parametrize("threads", WORKERS)
@pytest.mark.parametrize("cores", WORKERS)
def test_sums_are_bit_identical_for_any_number_of_workers(threads, cores, monkeypatch):
    """float32, so that another order of summation would show."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    model = tiny_files()["float32"]
    values = [row.astype(np.float32) * 1e3 for row in run_images(make_interpreter(model), IMAGES)]
    expected = sum(sum(values[part], 0) for part in chunks(len(IMAGES), SUM_CHUNK))
    with ThreadPoolExecutor(threads) as executor:
        total = sum_over_images(
            [model], IMAGES, lambda interpreter: output(interpreter) * 1e3, executor, False
        )
    assert total.dtype == np.float32 and total.tobytes() == expected.tobytes()


def test_files_are_measured_side_by_side_on_each_image():
    files = [tiny_files()["float32"], tiny_files()["int8"]]
    with open_executor(None) as executor:
        products = sum_over_images(
            files, IMAGES, lambda a, b: output(a) * output(b).astype(float), executor, True
        )
    exact, codes = (run_images(make_interpreter(model), IMAGES) for model in files)
    np.testing.assert_allclose(products, (exact * codes.astype(float)).sum(axis=0), rtol=1e-12)


def test_an_interpreter_comes_back_after_a_failure():
    pool = InterpreterPool([tiny_files()["float32"]], 1)
    with pytest.raises(ZeroDivisionError), pool.lend():
        raise ZeroDivisionError
    with pool.lend() as (interpreter,):
        assert run_images(interpreter, IMAGES[:1]).shape == (1, 5)


def test_the_callers_executor_stays_open_and_our_own_does_not():
    with ThreadPoolExecutor(1) as mine:
        with open_executor(mine) as executor:
            assert executor is mine
        assert mine.submit(int).result() == 0
    with open_executor(None, 1) as executor:
        pass
    with pytest.raises(RuntimeError):
        executor.submit(int)
