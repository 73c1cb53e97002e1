"""A benchmark on a board that is reached by ssh: there, measured, back, taken in.

The system's own `ssh` does it all, so that keys, agents, jump hosts and ~/.ssh/config are the
user's. A board needs a POSIX shell, tar, and Python with numpy and ai-edge-litert.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import remote

PACKAGES = {"numpy": "numpy", "ai_edge_litert": "ai-edge-litert"}  # module → package
OLDEST = (3, 9)
SSH_FAILED = 255  # the exit status that ssh keeps for itself
# Prints the interpreter's path, its version, and which modules it lacks; in words of Python 2 too.
LOOK = (
    "import sys; print(sys.executable); print('%d %d' % sys.version_info[:2])\n"
    "for name in {names}:\n"
    "    try: __import__(name)\n"
    "    except ImportError: print(name)"
)
# The benchmark ends with the connection: `cat` waits for the end of what this machine sends.
RUN = (
    "cd {folder} && exec 3<&0 && {{ {python} -u benchmark.py </dev/null & run=$!; "
    "( cat <&3; kill $run ) >/dev/null 2>&1 & watch=$!; "
    "wait $run; status=$?; kill $watch 2>/dev/null; exit $status; }}"
)


def bench(study: str, host: str, python: str, say: Callable[[str], None] = print) -> str:
    """Measure every variant of a study on a board, and keep what it measured in the study.

    Args:
        study: The study.
        host: Where the board is, as ssh has it: user@host, a name of ~/.ssh/config, or
            ssh://user@host:port.
        python: The interpreter there; a relative path starts at the user's home there.
        say: Called with a line of progress.

    Returns:
        The machine's name.

    Raises:
        EdgeqError: There is no ssh here, the board cannot be reached, lacks something or fails, or
            what it sends back is not this study's.
        KeyboardInterrupt: It was interrupted; the board is left as it was.
    """
    if host.startswith("-"):
        raise EdgeqError(f"'{host}' is no host; write user@host.")
    try:
        with tempfile.TemporaryDirectory(prefix="edgeq-") as name:
            board = Board(host, Path(name) / "ssh")
            try:
                return _bench(study, board, Path(name), python, say)
            finally:
                board.close()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; nothing of {host} was taken in, and its folder there is removed."
        ) from None


def _bench(study: str, board: Board, here: Path, python: str, say: Callable[[str], None]) -> str:
    """Do what `bench` says, with a folder of this machine for what is sent and comes back."""
    interpreter = board.check_python(python)
    count = remote.export_folder(study, here / "bench")
    folder = board.make_folder()
    try:
        say(f"copying {count} files to {board.host}")
        board.send(here / "bench", folder)
        board.measure(folder, interpreter, say)
        (here / "cost.json").write_bytes(board.fetch(folder))
        return remote.import_results(study, here / "cost.json")
    finally:
        board.remove(folder)


class Board:
    """A machine behind ssh."""

    def __init__(self, host: str, socket: Path):
        """Remember where the board is; nothing is sent yet.

        Args:
            host: What ssh is given.
            socket: A path for the connection that all calls share, so that a password is asked for
                once.
        """
        self.host, self.socket = host, socket
        shared = [
            *("-o", "ControlMaster=auto", "-o", f"ControlPath={socket}"),
            *("-o", "ControlPersist=60"),
        ]
        # A board that is gone must not hold this machine for the minutes that TCP waits.
        patience = ["-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15"]
        self.options = patience + (shared if os.name == "posix" else [])

    def _run(
        self,
        script: str,
        feed: Callable[[IO[bytes]], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> tuple[int, bytes, str]:
        """Run a script there.

        Args:
            script: For the shell there.
            feed: Writes what the script reads; without it, that stays open and empty.
            say: Called with each line that the script prints.

        Returns:
            Exit status, what it printed, and what it said of errors.

        Raises:
            EdgeqError: There is no ssh here, or it cannot reach the board.
        """
        command, pipe = ["ssh", *self.options, "--", self.host, script], subprocess.PIPE
        # Errors go to a file: the shared connection stays behind and would keep a pipe open.
        with tempfile.TemporaryFile() as words:
            try:
                process = subprocess.Popen(
                    command, bufsize=0, stdin=pipe, stdout=pipe, stderr=words
                )
            except FileNotFoundError:
                raise EdgeqError(
                    "There is no ssh on this machine; install OpenSSH's client, or use "
                    "`edgeq export-bench` and copy the folder yourself."
                ) from None
            with process:
                try:
                    printed = _converse(process, feed, say)
                except BaseException:
                    process.terminate()
                    raise
            words.seek(0)
            errors = words.read().decode(errors="replace").strip()
        if process.returncode == SSH_FAILED:
            self._unreachable(errors)
        return process.returncode, printed, errors

    def _unreachable(self, errors: str) -> None:
        raise EdgeqError(
            f"ssh cannot reach {self.host}, or lost it ({_last_line(errors)}); see that "
            f"`ssh {self.host}` works."
        )

    def check_python(self, python: str) -> str:
        """Check that the board can run the benchmark.

        Args:
            python: The interpreter's name or path there.

        Returns:
            Its absolute path.

        Raises:
            EdgeqError: There is none, it is too old, or lacks a package; says how to get it.
        """
        look = LOOK.format(names=list(PACKAGES))
        status, output, error = self._run(f"{shlex.quote(python)} -c {shlex.quote(look)}")
        lines = output.decode(errors="replace").split("\n")
        if status or len(lines) < 3:
            raise EdgeqError(
                f"{self.host} runs no '{python}' ({_last_line(error)}); install Python there, or "
                "name it with --python (a path that does not begin with / starts at the home "
                "there)."
            )
        path, version, *missing = (line.strip() for line in lines if line.strip())
        if tuple(map(int, version.split())) < OLDEST:
            raise EdgeqError(
                f"{self.host} has Python {version.replace(' ', '.')}, and the benchmark needs "
                f"{OLDEST[0]}.{OLDEST[1]} or later; name another one there with --python."
            )
        if missing:
            packages = " ".join(PACKAGES.values())
            raise EdgeqError(
                f"{path} on {self.host} lacks {' and '.join(PACKAGES[name] for name in missing)}; "
                f"run there `{path} -m pip install {packages}`, or, where the system forbids that, "
                f"`{path} -m venv edgeq && edgeq/bin/pip install {packages}` and say "
                "--python edgeq/bin/python."
            )
        return path

    def make_folder(self) -> str:
        """Make a new folder in the home there, and return its path.

        Raises:
            EdgeqError: It cannot be made.
        """
        status, output, error = self._run('mktemp -d "$PWD/edgeq-bench.XXXXXX"')
        if status:
            self._refuse("make a folder in its home", error)
        return output.decode().strip()

    def send(self, local: Path, folder: str) -> None:
        """Copy the content of a folder to the board, through tar.

        Raises:
            EdgeqError: The board has no tar, no room, or the connection broke.
        """

        def feed(stream: IO[bytes]) -> None:
            with tarfile.open(fileobj=stream, mode="w|") as archive:
                archive.add(local, arcname=".")

        status, _, error = self._run(f"tar -xf - -C {shlex.quote(folder)}", feed)
        if status:
            self._refuse("take the files", error)

    def measure(self, folder: str, python: str, say: Callable[[str], None]) -> None:
        """Run the benchmark there, and show what it prints.

        Args:
            folder: Where it lies.
            python: The interpreter's absolute path.
            say: Called with each line.

        Raises:
            EdgeqError: It failed, with its last words.
        """
        script = RUN.format(folder=shlex.quote(folder), python=shlex.quote(python))

        def show(line: str) -> None:
            if not line.startswith("Written: "):  # how to take the result back by hand
                say(line)

        status, _, error = self._run(script, say=show)
        if status:
            self._refuse("finish the benchmark", error)

    def fetch(self, folder: str) -> bytes:
        """Read the cost.MACHINE.json that the benchmark wrote there.

        Raises:
            EdgeqError: There is none.
        """
        status, output, error = self._run(f"cat {shlex.quote(folder)}/cost.*.json")
        if status:
            self._refuse("send its result", error)
        return output

    def remove(self, folder: str) -> None:
        """Remove the folder there; a board that is gone keeps it."""
        try:
            self._run(f"rm -rf {shlex.quote(folder)}")
        except EdgeqError:
            pass  # what went wrong before is said already

    def close(self) -> None:
        """End the shared connection."""
        if self.socket.exists():
            command = ["ssh", *self.options, "-O", "exit", "--", self.host]
            subprocess.run(command, capture_output=True, check=False)

    def _refuse(self, what: str, error: str) -> None:
        if "no space left" in error.lower() or "disk quota" in error.lower():
            raise EdgeqError(
                f"The disk of {self.host} is full; free some room there and say it again."
            )
        raise EdgeqError(f"{self.host} could not {what} ({_last_line(error)}).")


def _converse(
    process: subprocess.Popen[bytes],
    feed: Callable[[IO[bytes]], None] | None,
    say: Callable[[str], None] | None,
) -> bytes:
    """Write what a process reads, and read what it prints, to its end."""
    assert process.stdin and process.stdout
    if feed is not None:
        try:
            feed(process.stdin)
        except BrokenPipeError:
            pass  # it has stopped; what it said of that comes next
        process.stdin.close()
    printed = b""
    for line in process.stdout:
        printed += line
        if say is not None:
            say(line.decode(errors="replace").rstrip())
    process.wait()
    return printed


def _last_line(errors: str) -> str:
    """The last words of a program."""
    return (errors.splitlines() or ["it gave no reason"])[-1].strip()[:300]
