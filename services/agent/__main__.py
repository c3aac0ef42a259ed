"""python -m services.agent, with its settings in WHIMBREL_* variables: what `whimbrel up` becomes."""

import sys

import uvloop

from services.agent.errors import AgentError, AlreadyRunning
from services.agent.settings import Settings
from services.agent.wiring import run
from shared import log, metrics
from shared.errors import BadSetting, Taken
from shared.settings import read


def main() -> int:
    try:
        settings = read(Settings)
        log.set_up(settings.log_level, settings.log_format)
        metrics.introduce("agent")
        with metrics.page(settings.metrics_port):
            return uvloop.run(run(settings))
    except BadSetting as problem:
        return _ended(str(problem), 2)
    except Taken as problem:
        return _ended(str(problem), AlreadyRunning.exit_code)
    except AgentError as problem:
        return _ended(problem.message, problem.exit_code)


def _ended(line: str, code: int) -> int:
    print(f"error: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
