"""`python -m deploy.nats --keys DIR --data DIR [--host H] [--port P]`: run the bus of a compose stack.

Makes the services' keys on first use, writes the server's configuration and becomes the server.
"""

import argparse
import os
from pathlib import Path

from shared.bus.server import executable
from shared.bus.serverconfig import credentials, render


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.nats", description=__doc__)
    parser.add_argument("--keys", type=Path, required=True, help="folder of the seeds, made on first use")
    parser.add_argument("--data", type=Path, required=True, help="folder of the configuration and the streams")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=4222, help="port to listen on")
    wanted = parser.parse_args()
    wanted.data.mkdir(parents=True, exist_ok=True)
    config = wanted.data / "server.conf"
    keys = credentials(wanted.keys)
    config.write_text(render(keys, store=wanted.data / "store", host=wanted.host, port=wanted.port))
    server = str(executable())
    os.execv(server, [server, "--config", str(config)])


if __name__ == "__main__":
    main()
