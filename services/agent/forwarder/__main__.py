"""python -m services.agent.forwarder FD: started by the agent with one end of a pair of sockets."""

import contextlib
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


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MOST_FILES), most))
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]  # nobody may be unable to read them later
    _become_nobody()
    gc.collect()
    gc.freeze()
    uvloop.run(Program(Nameservers()).run(connection))


def _become_nobody() -> None:
    """What reads packets of everybody has no rights; a container that may not give them up has few anyway."""
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):
            os.setgroups(())
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)


if __name__ == "__main__":
    main()
