"""python -m services.signal --bus URL --credentials FILE"""

import sys
from collections.abc import Sequence

from services.signal.settings import Settings
from services.signal.wiring import run
from shared import log, process
from shared.settings import from_arguments


def main(argv: Sequence[str] | None = None) -> int:
    settings = from_arguments(Settings, "whimbrel signal", argv)
    log.set_up(settings.log_level, settings.log_format)
    return process.run("signal", run(settings))


if __name__ == "__main__":
    sys.exit(main())
