"""The command resolvconf, openresolv's or Debian's: it puts /etc/resolv.conf together from what interfaces bring.

It has no other interface than the command.
"""

import asyncio
from pathlib import Path

from services.agent.core.dns.hostdns import Mechanism, Wanted, resolv_conf
from services.agent.core.dns.resolvconf import ResolvConf, parse
from services.agent.drivers.resolv_conf import RESOLV_CONF

COMMAND = "resolvconf"
CALL_S = 10.0


class Resolvconf:
    """interface: whose part of the file is ours. command, file: others in tests."""

    name: Mechanism = "resolvconf"
    limit = ""

    def __init__(self, interface: str, command: str = COMMAND, file: Path = RESOLV_CONF) -> None:
        self._part = f"{interface}.whimbrel"
        self._command = command
        self._file = file
        self._told: Wanted | None = None
        self._own = ResolvConf()

    async def own(self) -> ResolvConf:
        """What the other interfaces bring; while our part hides them, and the command cannot list them, what they
        brought before. Raises OSError."""
        listed = parse(await self._run("-l") or "")
        found = listed if listed.servers else parse(self._file.read_bytes().decode(errors="replace"))
        others = tuple(server for server in found.servers if self._told is None or server != self._told.server)
        if others or self._told is None:
            self._own = ResolvConf(servers=others, search=found.search, options=found.options)
        return self._own

    async def apply(self, wanted: Wanted) -> bool:
        """Add our part, unless the file goes by it; gives whether it did and does no longer. Raises OSError."""
        found = parse(self._file.read_bytes().decode(errors="replace"))
        if self._told == wanted and found.servers[:1] == (wanted.server,):
            return False
        lost, self._told = self._told == wanted, wanted
        text = resolv_conf(wanted, ResolvConf())
        exclusive = await self._run("-x", "-a", self._part, text=text)  # which Debian's does not know
        if exclusive is None and await self._run("-a", self._part, text=text) is None:
            raise OSError(f"{self._command} does not take the servers of {self._part}")
        return lost

    async def revert(self) -> None:
        """Remove our part, if there is one. Raises OSError."""
        self._told = None
        await self._run("-f", "-d", self._part) or await self._run("-d", self._part)

    async def _run(self, *options: str, text: str = "") -> str | None:
        """What it prints, None when it fails."""
        process = await asyncio.create_subprocess_exec(
            self._command,
            *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(CALL_S):
                out, _ = await process.communicate(text.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise OSError(f"{self._command} does not end") from None
        return out.decode(errors="replace") if process.returncode == 0 else None
