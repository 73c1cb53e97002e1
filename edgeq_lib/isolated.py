"""A flatbuffer of unknown health, loaded and invoked in a process of its own, which may crash."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from edgeq_lib.study import EdgeqError


def run_alone(path: Path, timeout: float = 60) -> dict[str, float]:
    """Load a file and invoke it once on zeros in a process of its own, which may crash.

    Returns load_ms (interpreter made and tensors allocated), first_ms (the first invocation) and peak_memory_bytes
    (the most that the process held resident, less what it held before loading). Raises EdgeqError naming the file
    when LiteRT refuses it, takes longer than `timeout` seconds, or brings the process down.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        # -P: a module of the same name in the working directory must not stand in for LiteRT.
        child = subprocess.run([sys.executable, "-P", "-c", _ALONE, str(path)], capture_output=True, text=True,
                               timeout=timeout, errors="replace")
    except subprocess.TimeoutExpired:
        raise EdgeqError(f"{name} did not answer within {timeout:g} s; leave this variant out, or make it again.") \
            from None
    if child.returncode < 0:
        raise EdgeqError(f"{name} brings LiteRT down ({signal.Signals(-child.returncode).name}); make it again.")
    if child.returncode:
        cause = (child.stderr.strip().splitlines() or ["no message"])[-1].replace(str(path), name)
        raise EdgeqError(f"LiteRT cannot run {name} ({cause[:200]}); make it again, for built-in ops only.")
    return json.loads(child.stdout.splitlines()[-1])


_ALONE = """
import json, os, sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter

def held(field):
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))
    except OSError:  # not Linux
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

try:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # start the high-water mark afresh: importing may have held more than it kept
except OSError:
    pass
before, start = held("VmRSS"), time.perf_counter()
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
loaded = time.perf_counter()
for detail in interpreter.get_input_details():
    interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
ready = time.perf_counter()
interpreter.invoke()
done = time.perf_counter()
print(json.dumps({"load_ms": (loaded - start) * 1e3, "first_ms": (done - ready) * 1e3,
                  "peak_memory_bytes": max(held("VmHWM") - before, 0)}))
"""


def check_loads(path: Path, timeout: float = 60) -> None:
    """Raise EdgeqError naming the file when LiteRT cannot load and invoke it; tried in a child process."""
    run_alone(path, timeout)
