"""python -m services.management --bus URL --credentials FOLDER --data-dir FOLDER"""

import sys
from collections.abc import Sequence

from services.management.settings import Settings
from services.management.wiring import run
from shared import log, process
from shared.settings import from_arguments


def main(argv: Sequence[str] | None = None) -> int:
    settings = from_arguments(Settings, "whimbrel management", argv)
    log.set_up(settings.log_level, settings.log_format)
    return process.run("management", run(settings))


if __name__ == "__main__":
    sys.exit(main())
