"""/etc/resolv.conf itself, on a host where no program keeps it, or one that does not ask: backup, rewrite, repair."""

import contextlib
import errno
import os
from pathlib import Path

from services.agent.core.dns.hostdns import FileBefore, Mechanism, Wanted, is_ours, resolv_conf
from services.agent.core.dns.resolvconf import ResolvConf, parse
from services.agent.ports import Kept

RESOLV_CONF = Path("/etc/resolv.conf")
MODE = 0o644


class ResolvConfFile:
    """kept: what was there before, also after a crash. path: another one in tests."""

    name: Mechanism = "file"
    limit = ""

    def __init__(self, kept: Kept[FileBefore], path: Path = RESOLV_CONF) -> None:
        self._kept = kept
        self._path = path

    async def own(self) -> ResolvConf:
        """What the file says, or said before it was ours."""
        text = _read(self._path)
        return parse(self._kept.value.text if text is None or is_ours(text) else text)

    async def apply(self, wanted: Wanted) -> bool:
        """Have the file say so; gives whether another program had written it since. Raises OSError."""
        found = _read(self._path)
        ours = resolv_conf(wanted, await self.own())
        if found == ours:
            return False
        others = found is None or not is_ours(found)
        if others:
            self._keep(found, wanted.server)
        _write(self._path, ours)
        return others

    async def revert(self) -> None:
        """Put back what was there, unless another program has written the file since. Raises OSError."""
        before = self._kept.value
        found = _read(self._path)
        if before.kept and found is not None and is_ours(found):
            if before.link:
                _link(self._path, before.link)
            elif before.there:
                _write(self._path, before.text)
            else:
                self._path.unlink()
        if before.kept:
            self._kept.keep(FileBefore())

    def _keep(self, found: str | None, server: str) -> None:
        """Note what is there before it is replaced; one that names nobody but us is nothing to go back to."""
        link = os.readlink(self._path) if self._path.is_symlink() else ""
        servers = parse(found or "").servers
        if self._kept.value.kept and servers and set(servers) == {server}:
            return
        self._kept.keep(FileBefore(kept=True, there=found is not None or bool(link), link=link, text=found or ""))


def _read(path: Path) -> str | None:
    """As Latin-1, None where there is no file, as behind a link that leads nowhere."""
    try:
        return path.read_bytes().decode("latin-1")
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    """Replace the file, or a link, at once; one that is mounted there, as in containers, is written over."""
    new = path.with_name(f".{path.name}.whimbrel")
    content = text.encode("latin-1")
    try:
        new.write_bytes(content)
        new.chmod(MODE)
        os.replace(new, path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            new.unlink()
        if problem.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        path.write_bytes(content)


def _link(path: Path, target: str) -> None:
    new = path.with_name(f".{path.name}.whimbrel")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    os.replace(new, path)
