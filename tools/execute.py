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

# Notebooks that need an extra, which the lock file does without, and a package of it.
EXTRAS = {"31_qkeras": "qkeras", "71_runtimes": "openvino"}
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

    Notebooks that need an extra come last: what others store must not depend on them. Without the
    extra they keep their outputs.
    """
    paths = sorted(
        (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"),
        key=lambda path: (path.stem in EXTRAS, path),
    )
    for stem, package in EXTRAS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{stem} keeps its outputs: {package} is not installed.")
            paths = [path for path in paths if path.stem != stem]
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
