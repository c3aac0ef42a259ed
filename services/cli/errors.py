"""How a command ends when it cannot do what was asked."""

USAGE = 2
"""Exit code for a command line that makes no sense."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as cyclopts and shells have it."""

READER_GONE = 141
"""Exit code when nobody reads the output any more, as of a program that SIGPIPE ended."""


class Failed(Exception):
    """Show `message`, one line with the remedy, and end with `code`."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class NotRunning(Failed):
    """Start the agent, or name its socket."""
