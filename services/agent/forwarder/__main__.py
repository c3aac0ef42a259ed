"""python -m services.agent.forwarder FD: started by the agent with one end of a pair of sockets."""

import ctypes
import gc
import os
import resource
import socket
import sys

import dns.rdata
import uvloop

from services.agent.forwarder.nameservers import Nameservers
from services.agent.forwarder.program import Program

NOBODY = 65_534
MOST_FILES = 16_384
PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MOST_FILES), most))
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]  # nobody may be unable to read them later
    rights = _become_nobody()
    gc.collect()
    gc.freeze()
    uvloop.run(Program(Nameservers(), rights=rights).run(connection))


def _become_nobody() -> str:
    """What reads packets of everybody has no rights, and gets none by a program that has them. Why it keeps some.

    A container that may not give them up has few anyway.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return f"prctl: {os.strerror(ctypes.get_errno())}"
    if os.geteuid() == 0:
        try:
            os.setgroups(())
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        except PermissionError:
            return f"this host does not let it become user {NOBODY}: it needs CAP_SETGID and CAP_SETUID for that"
    return ""


if __name__ == "__main__":
    main()
