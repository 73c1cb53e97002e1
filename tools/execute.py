"""`make notebooks`: run each notebook with its defaults, store the outputs in place, and write its
paired .py.
"""

import importlib.util
import os
import tempfile
from pathlib import Path

import jupytext
import nbclient
import nbformat

EXTRA = "31_qkeras"  # needs QKeras, which the lock file does without
ROOT = Path(__file__).resolve().parents[1]
PERCENT = {
    "extension": ".py",
    "format_name": "percent",
    "notebook_metadata_filter": "-all",
    "cell_metadata_filter": "tags,-all",
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main() -> None:
    """Execute in running order on a shelf of its own, so that no earlier run shows through.

    The notebook that needs an extra comes last: what others store must not depend on it. Without
    the extra it keeps its outputs.
    """
    paths = sorted(
        (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"), key=lambda path: (path.stem == EXTRA, path)
    )
    if importlib.util.find_spec("qkeras") is None:
        print(f"{paths.pop().name} keeps its outputs: QKeras is not installed.")
    with tempfile.TemporaryDirectory() as runs:
        os.environ |= {"EDGEQ_RUNS": runs, "EDGEQ_PROGRESS": os.devnull}
        for path in paths:
            print(path.name, flush=True)
            notebook = nbformat.read(path, 4)
            nbclient.NotebookClient(
                notebook,
                timeout=1800,
                record_timing=False,
                extra_arguments=["--IPKernelApp.log_level=50"],
                resources={"metadata": {"path": str(path.parent)}},
            ).execute()
            for number, cell in enumerate(notebook.cells):
                cell["id"] = f"cell-{number:02d}"
            notebook.metadata = METADATA
            nbformat.write(notebook, path)
            jupytext.write(notebook, path.with_suffix(".py"), fmt=PERCENT)


if __name__ == "__main__":
    main()
