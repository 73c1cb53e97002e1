"""Known outputs and costs for a shelf whose report is tested."""

import numpy as np

CRITERIA = [{"name": "max_drop", "bound": 2.0}, {"name": "min_ratio", "bound": 3.0}]

CLASSES = ["cat", "dog <b>", "a|b", "d", "e", "f"]

N = 200

LABELS = np.arange(N) % len(CLASSES)


def outputs(labels, lost):
    """int8 (n, classes): the outputs of a file that misses the first `lost` images."""
    predicted = labels.copy()
    predicted[:lost] = (predicted[:lost] + 1) % len(CLASSES)
    return (np.eye(len(CLASSES))[predicted] * 100).astype(np.int8)


def cost(size, latency, integer):
    """The record of a file's cost: bytes, latency as a ratio, and whether it is integer only."""
    spread = {"ratio": latency, "ratio_low": latency * 0.9, "ratio_high": latency * 1.1}
    times = {"p50": latency, "p90": latency, "p99": latency}
    return {
        "bytes": size,
        "gzip_bytes": size - 10,
        "latency_ms": {"1": times},
        "latency_ratio": latency,
        "latency_ratio_low": latency * 0.9,
        "latency_ratio_high": latency * 1.1,
        "latency_interval": "95 % of the median",
        "latency_ratio_by_threads": {"1": {**spread, "rounds": 5, "invocations": 100}},
        "load_ms": 1.0,
        "peak_memory_bytes": None,
        "arena_bytes": 99,
        "vela": None,
        "targets": {
            "cortex_m_1m": {
                "runs": integer,
                "how": "executed",
                "why": None if integer else "it holds floats",
                "ram_bytes": 99,
                "flash_bytes": size,
            },
            "raspberry_pi_4": {
                "runs": True,
                "how": "checked",
                "why": None,
                "ram_bytes": 99 + size,
                "flash_bytes": size,
            },
        },
        "why": {"peak_memory_bytes": "it crashed"},
        "machine": {"cpu": "a <fast> one", "cores": 2, "flags": ["avx2"], "memory_bytes": 8e9},
        "runtime": {"ai-edge-litert": "2.3.0"},
        "report": {
            "ops": {"CONV_2D": 9},
            "float_ops": [],
            "integer_only": integer,
            "weight_bits": 8.0,
            "compute": "integer" if integer else "float32",
            "input_dtype": "int8",
            "output_dtype": "int8",
            "activation_bits": 8.0,
            "weight_bits_share": {"8": 1.0},
            "per_channel": True,
        },
    }
