"""`make arm64`: fetch what runs LiteRT's Arm kernels here: QEMU, an arm64 Python, aarch64 wheels.

All of it goes into one folder, EDGEQ_ARM64 or ~/.cache/edgeq/arm64, and needs no root: apt
downloads from Debian into that folder with lists of its own, dpkg unpacks, and pip fetches the
aarch64 wheels of the versions, and by the hashes, that requirements.lock holds.
`edgeq_lib.measure.arm64` says how the folder is laid out.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgeq_lib.files import EdgeqError, read_json, replace_folder, write_json
from edgeq_lib.measure import arm64

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
WHEELS = ("ai-edge-litert", "numpy")
GUEST = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "zlib1g", "libexpat1")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCE = "deb [arch={} signed-by={}] http://deb.debian.org/debian bookworm main\n"
# The C library and the loader date the wheels: 2.27 and earlier.
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1)] + [
    "manylinux2014_aarch64"
]


def locked(lock: str) -> dict[str, str]:
    """The requirements of the lock file for `WHEELS`, with their hashes, by the package's name."""
    found = {}
    for name in WHEELS:
        entry = re.search(rf"^{name}==(\S+)(?: *\\\n +\S+)*", lock, re.M)
        if not entry:
            raise EdgeqError(f"{LOCK.name} holds no {name}; run `make lock`.")
        found[name] = entry[0]
    return found


def versions(requirements: dict[str, str]) -> dict[str, str]:
    """The version that each requirement pins."""
    return {name: re.search(r"==([^\s;]+)", text)[1] for name, text in requirements.items()}


def check_tools() -> None:
    """Say in one sentence what this machine lacks."""
    missing = [tool for tool in ("apt-get", "dpkg", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise EdgeqError(
            f"`make arm64` needs {' and '.join(missing)}: run it on Debian or Ubuntu, or in a "
            "container of one of them."
        )
    if not KEYRING.exists():
        raise EdgeqError(
            f"{KEYRING} is missing, with which apt checks Debian's packages: install "
            "debian-archive-keyring."
        )


def run(*command: str) -> str:
    """What a command prints; its last words become the error's."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise EdgeqError(f"`{Path(command[0]).name}` failed ({words[-1]}); is the network there?")
    return done.stdout


def fetch_debian(architecture: str, packages: tuple[str, ...], scratch: Path, root: Path) -> None:
    """Unpack packages and all that they depend on into `root`, whatever is installed here."""
    (scratch / "lists" / "partial").mkdir(parents=True)
    (scratch / "archives" / "partial").mkdir(parents=True)
    (scratch / "status").touch()  # as if nothing was installed: so the list is complete
    (scratch / "sources.list").write_text(SOURCE.format(architecture, KEYRING))
    settings = {
        "Dir::State": scratch,
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch,
        "Dir::Etc::sourcelist": scratch / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    run("apt-get", *options, "--quiet", "update")
    run("apt-get", *options, "--quiet", "--yes", "--download-only", "install", *packages)
    root.mkdir(parents=True)
    for package in sorted((scratch / "archives").glob("*.deb")):
        run("dpkg-deb", "--extract", str(package), str(root))


def fetch_wheels(requirements: dict[str, str], scratch: Path, site: Path) -> None:
    """Unpack the aarch64 wheels of the lock file."""
    scratch.mkdir()
    listing = scratch / "requirements.txt"
    listing.write_text("\n".join(requirements.values()) + "\n")
    platforms = [word for tag in PLATFORMS for word in ("--platform", tag)]
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", *platforms]
    options += ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download")
    run(*pip, *options, "--dest", str(scratch), "--requirement", str(listing))
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def main() -> None:
    """Fill the folder, unless it holds these versions already."""
    folder, requirements = arm64.folder(), locked(LOCK.read_text())
    wanted = versions(requirements)
    if (record := folder / arm64.RECORD).exists() and read_json(record)["packages"] == wanted:
        print(f"{folder} is complete.")
        return
    if folder.exists() and any(folder.iterdir()) and not record.exists():
        raise EdgeqError(f"{folder} holds something else; name a new folder in EDGEQ_ARM64.")
    check_tools()
    print("Fetching QEMU, an arm64 Python and the aarch64 wheels (about 65 MB) …", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".arm64_") as name:
        scratch, new = Path(name), Path(name) / "new"
        fetch_debian("arm64", GUEST, scratch / "guest", new / arm64.GUEST)
        host = run("dpkg", "--print-architecture").strip()
        fetch_debian(host, ("qemu-user",), scratch / "host", new / arm64.HOST)
        fetch_wheels(requirements, scratch / "wheels", new / arm64.SITE)
        write_json(new / arm64.RECORD, {"packages": wanted, "qemu": arm64.qemu_version(new)})
        replace_folder(new, folder)
    print(f"{folder} is complete; " + (arm64.available() or "Arm64 can be emulated."))


if __name__ == "__main__":
    try:
        main()
    except EdgeqError as error:
        sys.exit(str(error))
