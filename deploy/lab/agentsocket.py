"""What an agent of the lab says of itself, over its socket and without a process."""

import json
import socket
from pathlib import Path
from typing import Any

ANSWER_LIMIT_S = 60.0


def ask(path: Path, what: str, **options: Any) -> Any:
    """The agent's answer; None where no agent answers, or it refuses."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(ANSWER_LIMIT_S)
            agent.connect(str(path))
            with agent.makefile("rwb") as stream:
                stream.write(json.dumps({"do": what, **options}).encode() + b"\n")
                stream.flush()
                line = stream.readline()
    except OSError:
        return None
    return json.loads(line).get("result") if line else None
