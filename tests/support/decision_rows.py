"""Rows of the results table for tests of the analysis."""

# What targets of these names run: the widths of their integers' weights; None for floats too.
TARGETS = {"integer": (8, 4, 2), "int4": (8, 4), "int8": (8,), "any_width": None}


def verdicts(integer, bits):
    """What each of the `TARGETS` says of a file."""
    return {
        name: {
            "runs": widths is None or (integer and bits in widths),
            "how": "executed",
            "why": None if widths is None or (integer and bits in widths) else f"it is no {name}",
            "ram_bytes": 1000,
            "flash_bytes": 2000,
        }
        for name, widths in TARGETS.items()
    }


CRITERIA = [{"name": "max_drop", "bound": 1.0}, {"name": "min_ratio", "bound": 3.0}]


def row(
    name,
    drop=0.0,
    kilobytes=100,
    latency=0.4,
    technique="ptq",
    scheme="int8",
    half=0.5,
    integer=True,
    bits=8,
    **more,
):
    baseline = technique == "baseline"
    return {
        "name": name,
        "kind": "variant",
        "technique": technique,
        "scheme": scheme,
        "value": 90 - drop,
        "n": 500,
        "drop": None if baseline else drop,
        "drop_low": None if baseline else drop - half,
        "drop_high": None if baseline else drop + half,
        "agreement": None if baseline else 95.0,
        "bytes": kilobytes * 1000,
        "ratio": 400 / kilobytes,
        "latency_ratio": latency,
        "latency_ratio_low": latency * 0.9,
        "latency_ratio_high": latency * 1.1,
        "integer_only": integer,
        "activation_bits": 8 if integer else 32,
        "weight_bits_share": {str(bits): 1.0},
        "weight_bits": bits,
        "trained": None,
        "stage": "03_ptq",
        "targets": verdicts(integer, bits),
        **more,
    }


def proven(*rows, **pairs):
    """Rows with paired counts: `better__worse=(only the one is right, only the other is)`."""
    counts = {tuple(pair.split("__")): count for pair, count in pairs.items()}
    counts |= {(worse, better): count[::-1] for (better, worse), count in counts.items()}
    return [
        {
            **each,
            "paired": {
                other: count for (own, other), count in counts.items() if own == each["name"]
            },
        }
        for each in rows
    ]


FLOAT = row(
    "float32",
    kilobytes=400,
    latency=1.0,
    technique="baseline",
    scheme="float32",
    integer=False,
    bits=32,
)

SHELF = [
    FLOAT,
    row("int8", 0.2),
    row("w4a8", 0.9, 55, bits=4),
    row("mixed", 0.2, 60, technique="mixed_precision", bits=4),
    row("squant", 0.4, 95, technique="data_free"),
    row("squant_w4", 4.0, 55, technique="data_free", bits=4),
    row("qat", 0.0, technique="qat", trained="labels"),
    row("peer", -2.0, 10, technique="peer", kind="peer"),
]
