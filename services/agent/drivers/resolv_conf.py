"""/etc/resolv.conf, where programs of this host read whom to ask."""

from pathlib import Path

from services.agent.core.dns.resolvconf import ResolvConf, parse

RESOLV_CONF = Path("/etc/resolv.conf")


class ResolvConfFile:
    """path: another one in tests."""

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path

    async def own(self) -> ResolvConf:
        """What the file says. Raises OSError where there is none."""
        return parse(self._path.read_bytes().decode(errors="replace"))
