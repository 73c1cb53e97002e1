"""Joules per inference, from the record of a power meter and the times at which each file ran.

Nothing is estimated from sizes or operations: without a meter there is no energy. What the board
draws while it idles is taken off, so that the figure is the inference's own.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError

EDGE = 0.1  # of a stretch, at each end, where the meter may still show what was before
Trace = tuple[np.ndarray, np.ndarray]


def read_trace(file: Path) -> Trace:
    """Read what a power meter recorded.

    Args:
        file: A CSV with the columns `time` (seconds since 1970, or ISO 8601 with its zone) and
            `watts`; others are ignored.

    Returns:
        Times in seconds since 1970, float64 (n,), increasing, and watts, float64 (n,).

    Raises:
        EdgeqError: The file is missing, a column is, or a line cannot be read.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            missing = {"time", "watts"} - set(reader.fieldnames or ())
            if missing:
                raise EdgeqError(
                    f"{file.name} has no column '{min(missing)}'; its first line must name the "
                    "columns time and watts, separated by commas."
                )
            lines = [(reader.line_num, line["time"], line["watts"]) for line in reader]
    except FileNotFoundError:
        raise EdgeqError(f"There is no file {file.name}; give the CSV of the meter.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EdgeqError(f"{file.name} cannot be read as CSV ({error}).") from None
    samples = [(_seconds(file, *line), _watts(file, *line)) for line in lines]
    times, watts = np.array(samples, np.float64).reshape(-1, 2).T
    if (np.diff(times) <= 0).any():
        number = lines[int(np.argmax(np.diff(times) <= 0)) + 1][0]
        raise EdgeqError(
            f"The times of {file.name} do not increase at line {number}; give the meter's own "
            "record, in its order."
        )
    return times, watts


def _seconds(file: Path, number: int, time: str | None, _: str | None) -> float:
    """The time of a line in seconds since 1970."""
    text = (time or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise EdgeqError(
                f"The time '{text[:40]}' at line {number} of {file.name} is neither seconds since "
                "1970 nor ISO 8601."
            ) from None
        if moment.tzinfo is None:
            raise EdgeqError(
                f"The time '{text[:40]}' at line {number} of {file.name} names no zone; write it "
                "as 2026-01-31T12:00:00.5+00:00."
            ) from None
        seconds = moment.timestamp()
    if not np.isfinite(seconds):
        raise EdgeqError(f"The time at line {number} of {file.name} is not a finite number.")
    return seconds


def _watts(file: Path, number: int, _: str | None, watts: str | None) -> float:
    """The power of a line."""
    try:
        value = float(watts or "")
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise EdgeqError(
            f"'{(watts or '').strip()[:40]}' at line {number} of {file.name} is no number of watts."
        )
    return value


def energies(
    trace: Trace, stretches: Sequence[Mapping[str, Any]], name: str = "The CSV"
) -> dict[str, dict[str, Any]]:
    """Compute what an inference of each file takes.

    A stretch gives one value: the mean power in it, less the mean of the idle stretches before and
    after, times its length, by its invocations. A tenth at either end of a stretch is left out of
    its mean, since meters average over some time. The interval is that of the median over the
    file's stretches (`standalone.median_interval`).

    Args:
        trace: What `read_trace` returned.
        stretches: What `standalone.run_stretches` returned, idle ones first, last and in between.
        name: What an error calls the trace.

    Returns:
        By file: joules (median over its stretches), joules_low, joules_high and interval (None for
        fewer than six stretches), watts (above idle, median), idle_watts, stretches.

    Raises:
        EdgeqError: The trace does not cover the stretches, samples too rarely, or shows no more
            power while files ran than while none did.
    """
    from edgeq_lib.measure.standalone import INTERVAL, median_interval  # it loads LiteRT

    _check_coverage(trace, stretches, name)
    means = [_mean_power(trace, stretch, name) for stretch in stretches]
    joules: dict[str, list[float]] = {}
    watts: dict[str, list[float]] = {}
    for index, stretch in enumerate(stretches):
        if stretch["name"] is None:
            continue
        own = means[index] - (means[index - 1] + means[index + 1]) / 2
        seconds = (stretch["end"] - stretch["start"]) / stretch["invocations"]
        watts.setdefault(stretch["name"], []).append(own)
        joules.setdefault(stretch["name"], []).append(own * seconds)
    if np.median(np.concatenate(list(watts.values()))) <= 0:
        raise EdgeqError(
            f"{name} shows no more power while files ran than while none did; see that the "
            "meter's clock and the board's agree, and that it measures this board."
        )
    idle = [mean for mean, stretch in zip(means, stretches, strict=True) if stretch["name"] is None]
    found = {}
    for file, values in joules.items():
        low, high = median_interval(values) or (None, None)
        found[file] = {
            "joules": float(np.median(values)),
            "joules_low": low,
            "joules_high": high,
            "interval": None if low is None else INTERVAL,
            "watts": float(np.median(watts[file])),
            "idle_watts": float(np.median(idle)),
            "stretches": len(values),
        }
    return found


def _check_coverage(trace: Trace, stretches: Sequence[Mapping[str, Any]], name: str) -> None:
    times = trace[0]
    start, end = stretches[0]["start"], stretches[-1]["end"]
    if not len(times) or times[0] > start or times[-1] < end:
        said = f"runs from {_clock(times[0])} to {_clock(times[-1])}" if len(times) else "is empty"
        raise EdgeqError(
            f"{name} {said} and does not cover the benchmark, {_clock(start)} to {_clock(end)}; "
            "start the meter before it, stop it after, and set both clocks."
        )


def _mean_power(trace: Trace, stretch: Mapping[str, Any], name: str) -> float:
    """Mean watts of a stretch without its edges; straight lines between samples."""
    times, watts = trace
    margin = EDGE * (stretch["end"] - stretch["start"])
    start, end = stretch["start"] + margin, stretch["end"] - margin
    inside = (times > start) & (times < end)
    if not inside.any():
        what = f"'{stretch['name']}' ran" if stretch["name"] else "the board idled"
        raise EdgeqError(
            f"{name} has no sample from {_clock(start)} to {_clock(end)}, when {what}; let the "
            "meter sample at least twice per second."
        )
    across = np.concatenate([[start], times[inside], [end]])
    power = np.interp(across, times, watts)
    return float(np.sum(np.diff(across) * (power[1:] + power[:-1]) / 2) / (end - start))


def _clock(seconds: float) -> str:
    """A moment as text, in UTC."""
    moment = datetime.datetime.fromtimestamp(float(seconds), datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
