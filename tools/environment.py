"""Write environment.yml, for conda users, from pyproject.toml and requirements.lock: run by `make
lock`.

`--check` writes nothing and fails when the stored file differs.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==[^\\]+", re.M)  # a line of the lock, up to its hashes
HEAD = f"""# Written by `make lock` from requirements.lock: conda env create -f environment.yml
name: edgeq
channels: [conda-forge]
dependencies:
  - python={PYTHON}
  - pip
  - pip:
"""


def locked(lock: str) -> dict[str, str]:
    """Read the pins of a lock file that hold for Python 3.11 on Linux.

    Args:
        lock: The content of requirements.lock.

    Returns:
        Canonical name → version.
    """
    here = {
        "python_version": PYTHON,
        "python_full_version": f"{PYTHON}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
    }
    versions = {}
    for match in PIN.finditer(lock):
        requirement = Requirement(match[0].strip())
        if requirement.marker is None or requirement.marker.evaluate(here):
            versions[canonicalize_name(requirement.name)] = str(requirement.specifier)
    return versions


def environment(project: dict, lock: str) -> str:
    """Write the content of environment.yml.

    Args:
        project: The content of pyproject.toml.
        lock: The content of requirements.lock.

    Returns:
        YAML: what pyproject.toml asks for, with its extra `dev`, in the versions of the lock.
    """
    versions = locked(lock)
    asked = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
    names = sorted({canonicalize_name(Requirement(line).name) for line in asked})
    pins = [f"{name}{versions[name]}" for name in names]
    return HEAD + "".join(f"      - {line}\n" for line in [*pins, "--editable ."])


def main() -> None:
    """Write environment.yml of this checkout, or check it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    content = environment(project, (ROOT / "requirements.lock").read_text())
    path = ROOT / "environment.yml"
    if "--check" in sys.argv[1:]:
        sys.exit(path.read_text() != content and "environment.yml is stale: run `make lock`.")
    path.write_text(content)


if __name__ == "__main__":
    main()
