"""Joules from a made-up meter whose energies are known."""

import datetime

import numpy as np
import pytest

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import power

START = 1.8e9
WATTS = {"float32": 3.0, "int8": 2.0}  # above idle
CALLS = {"float32": 100, "int8": 400}  # in a stretch of four seconds
IDLE = 2.5


def stretches():
    """Six of each file in turn, with idle ones around them, as the benchmark notes them."""
    found, now = [], START
    for name in (None, *["float32", None, "int8", None] * 6):
        lasts = 4.0 if name else 2.0
        invocations = CALLS.get(name, 0)
        found.append({"name": name, "start": now, "end": now + lasts, "invocations": invocations})
        now += lasts + 0.01
    return found


def trace(rate=20, noise=0.0, drift=0.0):
    """What a meter shows of them: watts at `rate` per second, from 5 s before to 5 s after."""
    rng, spans = np.random.default_rng(0), stretches()
    times = np.arange(START - 5, spans[-1]["end"] + 5, 1 / rate)
    watts = IDLE + drift * (times - START) + noise * rng.standard_normal(len(times))
    for span in spans:
        watts += WATTS.get(span["name"], 0) * ((times >= span["start"]) & (times < span["end"]))
    return times, watts


def test_energy_is_power_above_idle_times_the_time_of_an_inference():
    found = power.energies(trace(), stretches())
    assert list(found) == ["float32", "int8"]
    for name, energy in found.items():
        expected = WATTS[name] * 4.0 / CALLS[name]
        assert energy["joules"] == pytest.approx(expected, rel=1e-6)
        assert energy["watts"] == pytest.approx(WATTS[name])
        assert energy["idle_watts"] == pytest.approx(IDLE)
        assert energy["stretches"] == 6 and energy["interval"] == "95 % of the median"


def test_a_drift_of_the_idle_power_is_taken_off():
    found = power.energies(trace(drift=0.02), stretches())
    assert found["int8"]["joules"] == pytest.approx(0.02, rel=1e-3)


def test_noise_widens_the_interval_which_holds_the_truth():
    widths = []
    for noise in (0.05, 0.5):
        energy = power.energies(trace(noise=noise), stretches())["int8"]
        assert energy["joules_low"] < 0.02 < energy["joules_high"]
        widths.append(energy["joules_high"] - energy["joules_low"])
    assert widths[1] > 5 * widths[0]


def test_few_stretches_have_no_interval():
    energy = power.energies(trace(), stretches()[:9])["int8"]
    assert energy["joules"] == pytest.approx(0.02) and energy["stretches"] == 2
    assert energy["joules_low"] is None is energy["interval"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda times, watts: (times[200:], watts[200:]), "does not cover the benchmark"),
        (lambda times, watts: (times[:-200], watts[:-200]), "does not cover the benchmark"),
        (lambda times, watts: (times - 86400, watts), "does not cover the benchmark, 2027-"),
        (lambda times, watts: (times[:0], watts[:0]), "p.csv is empty"),
        (lambda times, watts: (times[::100], watts[::100]), "sample at least twice per second"),
        (lambda times, watts: (times, np.full_like(watts, 2.5)), "no more power while files ran"),
        (lambda times, watts: (times, -watts), "no more power while files ran"),
    ],
)
def test_a_trace_that_does_not_fit_gets_one_sentence(change, says):
    with pytest.raises(EdgeqError, match=says) as error:
        power.energies(change(*trace()), stretches(), "p.csv")
    assert "\n" not in str(error.value)


def test_times_are_seconds_or_iso(tmp_path):
    path = tmp_path / "power.csv"
    moments = [START, START + 0.5, START + 1]
    path.write_text(
        "volts, watts ,time\n".replace(" ,", ",")
        + "".join(f"5, {index}.5, {moment}\n" for index, moment in enumerate(moments))
    )
    times, watts = power.read_trace(path)
    assert times.tolist() == moments and watts.tolist() == [0.5, 1.5, 2.5]
    zone = datetime.timezone(datetime.timedelta(hours=9))
    text = [datetime.datetime.fromtimestamp(moment, zone).isoformat() for moment in moments]
    path.write_text("\ufefftime,watts\n" + "".join(f"{moment},1\n" for moment in text))
    assert power.read_trace(path)[0].tolist() == moments


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time,power\n1,2\n", "no column 'watts'"),
        ("", "no column 'time'"),
        ("time,watts\n1,2\nnoon,2\n", "'noon' at line 3 of p.csv is neither"),
        ("time,watts\n2026-01-31T12:00:00,2\n", "names no zone"),
        ("time,watts\n1,2\n2,much\n", "'much' at line 3 of p.csv is no number of watts"),
        ("time,watts\n1,nan\n", "is no number of watts"),
        ("time,watts\ninf,1\n", "not a finite number"),
        ("time,watts\n1\n", "'' at line 2 of p.csv is no number of watts"),
        ("time,watts\n1,2\n3,2\n2,2\n", "do not increase at line 4"),
    ],
)
def test_a_csv_that_is_none_gets_one_sentence(tmp_path, text, says):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(EdgeqError, match=says):
        power.read_trace(path)


def test_a_csv_that_is_not_there(tmp_path):
    with pytest.raises(EdgeqError, match="no file p.csv"):
        power.read_trace(tmp_path / "p.csv")
