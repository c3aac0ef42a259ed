"""Failures of the agent, named after the remedy. `exit_code` is what the process ends with."""


class AgentError(Exception):
    """One line for a person, with the remedy."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class EnrolmentRefused(AgentError):
    """Get another setup key: `reason` is one of shared.events.signals.EnrolReason."""

    exit_code = 3

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MechanismMissing(AgentError):
    """Install or allow what the host lacks: root, WireGuard or TUN, nftables."""

    exit_code = 4


class AlreadyRunning(AgentError):
    """Stop the other agent, or give this one a network namespace and a state directory of its own."""

    exit_code = 5


class CorruptState(AgentError):
    """A state file could not be read and was set aside: `path` is where it is now."""

    exit_code = 6

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class AdmissionRefused(Exception):
    """Wait, or ask the administrator: the bus is there and does not admit this peer."""

    def __init__(self) -> None:
        super().__init__("the bus is there, management does not answer")


class SetupKeyMissing(AgentError):
    """Start with a setup key: this host has no identity yet."""

    exit_code = 2
