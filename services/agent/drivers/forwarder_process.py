"""The process that answers clients' questions for names, started with one end of a pair of sockets."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
"""Where `services` is."""


def start() -> "tuple[socket.socket, subprocess.Popen[bytes]]":
    """The agent's end, and the process; it ends with that connection, however the agent ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "services.agent.forwarder", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            # Nothing else of our environment, which may hold a setup key.
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT)},
            cwd="/",
            start_new_session=True,  # what is sent to the agent's process group, Ctrl-C for one, is not for it
        )
    ours.setblocking(False)
    return ours, child
