"""python -m services.resolver --bus URL --credentials FILE"""

import sys
from collections.abc import Sequence

from services.resolver.settings import Settings
from services.resolver.wiring import run
from shared import log, process
from shared.settings import from_arguments


def main(argv: Sequence[str] | None = None) -> int:
    settings = from_arguments(Settings, "whimbrel resolver", argv)
    log.set_up(settings.log_level, settings.log_format)
    return process.run("resolver", run(settings))


if __name__ == "__main__":
    sys.exit(main())
