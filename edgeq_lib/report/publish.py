"""What git keeps of a study: the reviewable part of its report in `figures/STUDY`, its README line.

HTML, PDF and notebook pages are built from these by `make site`, not stored.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeq_lib.files import EdgeqError, home, read_json, replace_folder, runs, write_bytes
from edgeq_lib.report.export import results_table
from edgeq_lib.study import SYNTHETIC

LARGEST = 5_000_000  # bytes of one file in figures/
KEPT = ("*.json", "*.csv", "*.md", "*.png")  # and the folder deploy
MARKS = "<!-- results -->", "<!-- /results -->"


def publish_study(name: str) -> list[str]:
    """Copy what git keeps of a study's report to `figures/NAME`, whole or not at all.

    Files over 5 MB are left out and named in deploy/README.md with the command that makes them.
    Rewrites the README's table of results where its markers stand.

    Args:
        name: The study.

    Returns:
        What to tell the user, one line each.

    Raises:
        EdgeqError: Without a report, or for a study of synthetic data.
    """
    source, target = runs() / name / "report", home() / "figures" / name
    if not (source / "results.json").exists():
        raise EdgeqError(f"Study '{name}' has no report yet; `edgeq run {name}` makes it.")
    results = read_json(source / "results.json")
    if results["data"]["form"].startswith(SYNTHETIC):
        raise EdgeqError(
            f"Study '{name}' was made on synthetic data, a smoke test only; run it on the real "
            "data to publish it."
        )
    staging = target.with_name(f".{name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for pattern in KEPT:
        for path in source.glob(pattern):
            shutil.copy2(path, staging)
    if (source / "deploy").exists():
        shutil.copytree(source / "deploy", staging / "deploy")
    left_out = _leave_out_large(staging, name, results["command"])
    replace_folder(staging, target)
    return [*left_out, *update_readme(home() / "README.md", home() / "figures")]


def _leave_out_large(folder: Path, name: str, command: str) -> list[str]:
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size > LARGEST:
            lines.append(
                f"{path.relative_to(folder)} ({path.stat().st_size / 1e6:.1f} MB) is not "
                "published, "
                f"being over {LARGEST / 1e6:g} MB: `{command}` makes it in runs/{name}/report."
            )
            path.unlink()
    readme = folder / "deploy" / "README.md"
    if lines and readme.exists():
        text = readme.read_text() + "".join(f"\n{line}\n" for line in lines)
        write_bytes(readme, text.encode())
    return lines


def update_readme(readme: Path, figures: Path) -> list[str]:
    """Rewrite the table between the markers of a README from the published results.

    Returns:
        What to tell the user, one line each.
    """
    text = readme.read_text() if readme.exists() else ""
    if not all(mark in text for mark in MARKS):
        return []
    before, rest = text.split(MARKS[0], 1)
    after = rest.split(MARKS[1], 1)[1]
    new = f"{before}{MARKS[0]}\n{results_table(figures)}\n{MARKS[1]}{after}"
    if new == text:
        return []
    write_bytes(readme, new.encode())
    return ["The README's table of results was rewritten."]
