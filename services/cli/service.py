"""`whimbrel management`, `signal`, `resolver`: one service against a bus that is there, with the service's options."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

Options = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]

# Without flags of their own, so that `whimbrel signal --help` shows what the service itself understands.
management = App(name="management", help_flags=[], version_flags=[])
signal = App(name="signal", help_flags=[], version_flags=[])
resolver = App(name="resolver", help_flags=[], version_flags=[])


@management.default
def run_management(*options: Options) -> None:
    """Run one management service on a bus."""
    from services.management.__main__ import main

    sys.exit(main(options))


@signal.default
def run_signal(*options: Options) -> None:
    """Run one signal service on a bus."""
    from services.signal.__main__ import main

    sys.exit(main(options))


@resolver.default
def run_resolver(*options: Options) -> None:
    """Run one resolver service on a bus."""
    from services.resolver.__main__ import main

    sys.exit(main(options))
