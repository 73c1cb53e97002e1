"""Results and blocks of a page that hold what may break it, and what reads the page."""

import json
import re
from html.parser import HTMLParser

HOSTILE = "a_</script><b>&'\"|name_that_is_rather_long_for_a_phone_and_goes_on"

CRITERIA = [{"name": "max_drop", "bound": 2.0}, {"name": "max_latency_ratio", "bound": 1.0}]

# name, kind, technique, top-1, bytes, latency ratio
ROWS = (
    ("float32", "variant", "baseline", 90.0, 4000, 1.0),
    ("int8", "variant", "ptq", 89.5, 1000, 0.5),
    ("int8_slow", "variant", "ptq", 89.0, 1100, 27.4),
    ("w4", "variant", "low_bit", 85.0, 600, 0.6),
    ("collapsed", "variant", "low_bit", 1.0, 590, 0.61),
    ("unmeasured", "variant", "qat", 89.9, None, None),
    (HOSTILE, "peer", "peer", 91.0, 900, 0.4),
)


def row_of(name, kind, technique, value, size, latency):
    """A row of results from its facts, with a reason where there is no number."""
    drop = None if technique == "baseline" else 90.0 - value
    row = {"name": name, "kind": kind, "technique": technique, "value": value, "n": 200}
    row |= {"low": value - 2, "high": min(value + 2, 100.0), "agreement": None, "bytes": size}
    row |= {"drop": drop, "drop_low": drop and drop - 1, "drop_high": drop and drop + 1}
    row |= {"ratio": size and 4000 / size, "latency_ratio": latency, "weight_bits": 8.0}
    row |= {"latency_ratio_low": latency, "latency_ratio_high": latency, "activation_bits": None}
    row |= {"integer_only": technique != "baseline"}
    return row | {"why": {field: "it <broke>" for field, value in row.items() if value is None}}


BLOCKS = [
    ("title", "tiny: </title><i>which"),
    ("lead", "Ship `int8`"),
    ("heading", "Results"),
    ("table", "The main table", ["Variant", "Top-1"], [["`int8`", "left out"]], 0),
    ("table", "Another | table", ["What", "Value"], [["a|b", "1 < 2"], ["c" * 60, "3"]], 1),
    ("figure", "drop", 'A "drop" of `int8`'),
    ("list", ["one", "**two**"]),
    ("facts", [("Machine", "a <fast> one")]),
]


def page_data(text):
    """What the page hands to its script."""
    return json.loads(re.search(r'id="report-data">(.*?)</script>', text, re.S)[1])


class Elements(HTMLParser):
    """The elements of a page and what they point at."""

    def __init__(self):
        super().__init__()
        self.tags, self.urls = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
