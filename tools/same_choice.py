"""Compare a run of a study with what is published of it: both must ship the same file.

Accuracies and latencies may differ from one processor to another, the recommendation must not.
"""

import json
import sys
from pathlib import Path

PUBLISHED = Path(__file__).resolve().parents[1] / "figures"


def main(report: Path) -> None:
    """Exit with a sentence when the run in the folder `report` recommends another file."""
    here = json.loads((report / "results.json").read_text())
    published = json.loads((PUBLISHED / here["study"] / "results.json").read_text())
    chosen, wanted = (
        (results["recommendation"]["variant"], results["recommendation"]["met"])
        for results in (here, published)
    )
    if chosen != wanted:
        sys.exit(f"This run ships {chosen}, the published study {wanted} (name, criteria met).")
    print(f"Ships {chosen[0]}, as published.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
