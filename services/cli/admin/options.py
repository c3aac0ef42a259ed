"""Options that exclude each other."""

from collections.abc import Mapping

from services.cli.errors import USAGE, Failed


def one_of(options: Mapping[str, object], *, needed: bool) -> None:
    """Raises Failed when several of the options are given (are not None), or none although one is needed."""
    given = [option for option, value in options.items() if value is not None]
    if len(given) > 1:
        raise Failed(f"give either {' or '.join(given)}, not both", USAGE)
    if needed and not given:
        raise Failed(f"give either {' or '.join(options)}", USAGE)
