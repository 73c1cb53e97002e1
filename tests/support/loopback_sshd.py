"""An sshd of our own on loopback: a board to be reached by the system's ssh."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def board(folder, monkeypatch):
    """Start an sshd in `folder`; yields the host to name and the home of whoever logs in there.

    The home holds bin/, which is looked through first for programs: a test puts its own there.
    The `ssh` that is found from here on knows the port, the key and nothing of the user's own.
    """
    if not (SSHD and shutil.which("ssh") and shutil.which("ssh-keygen")):
        pytest.skip("there is no sshd here: apt-get install openssh-server")
    home, keys, wrapper = folder / "home", folder / "keys", folder / "path"
    for part in (home / "bin", keys, wrapper):
        part.mkdir(parents=True)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    port = free_port()
    enter = home.parent / "enter"
    enter.write_text(
        f"#!/bin/sh\ncd {home}\nPATH={home}/bin:$PATH HOME={home}\nexport PATH HOME\n"
        f'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    enter.chmod(0o755)
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {keys}/host\nPidFile none\n"
        f"AuthorizedKeysFile {keys}/user.pub\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin prohibit-password\nForceCommand {enter}\n"
    )
    client = folder / "ssh_config"
    client.write_text(
        f"Host board\n HostName 127.0.0.1\n Port {port}\n IdentityFile {keys}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {keys}/known\n StrictHostKeyChecking no\n"
        " BatchMode yes\n LogLevel ERROR\n"
    )
    program = wrapper / "ssh"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {client} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper), prepend=os.pathsep)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where root's sshd gives up its rights
    log = folder / "sshd.log"
    with log.open("wb") as lines:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=lines)
    try:
        _await(port, server, log)
        yield f"{getpass.getuser()}@board", home
    finally:
        server.terminate()
        server.wait()


def _await(port, server, log):
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if server.poll() is not None:
            pytest.skip(f"sshd does not start here: {log.read_text().strip()[-200:]}")
        time.sleep(0.05)
    pytest.skip("sshd does not answer here")


def stub(home, name, text):
    """Put a program of that name before the system's own; `text` is a shell script."""
    path = home / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


PYTHON = sys.executable
