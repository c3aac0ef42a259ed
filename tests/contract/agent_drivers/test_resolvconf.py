"""The command resolvconf as the agent uses it, with openresolv's ways and with Debian's."""

from pathlib import Path

import pytest

from services.agent.core.dns.hostdns import Wanted
from services.agent.core.dns.resolvconf import ResolvConf, parse
from services.agent.drivers.resolvconf import Resolvconf

OURS = Wanted(server="100.64.0.1", search=("whimbrel.test",))
THEIRS = ResolvConf(servers=("192.0.2.53",), search=("home.test",))

# Parts of interfaces are files of one directory; the file is made of all of them, or of an exclusive one alone.
# Debian's knows neither exclusive parts nor a list, and gives the interfaces in the order of their names here.
COMMAND = """#!/bin/sh
set -e
parts={parts}; file={file}; exclusive=; kind={kind}
all() {{ cat "$parts"/if.* 2>/dev/null || true; }}
make() {{ if [ -e "$parts/exclusive" ]; then cat "$parts/exclusive"; else all; fi > "$file"; }}
while [ $# -gt 0 ]; do case "$1" in
  -x) [ "$kind" = openresolv ] || exit 1; exclusive=yes;;
  -f) [ "$kind" = openresolv ] || exit 1;;
  -l) [ "$kind" = openresolv ] || exit 1; cat "$parts"/if.* "$parts/exclusive" 2>/dev/null || true; exit 0;;
  -a) if [ "$exclusive" ]; then cat > "$parts/exclusive"; else cat > "$parts/if.$2"; fi; make; exit 0;;
  -d) rm -f "$parts/exclusive" "$parts/if.$2"; make; exit 0;;
esac; shift; done
exit 1
"""


class Host:
    def __init__(self, directory: Path, kind: str) -> None:
        self.file = directory / "resolv.conf"
        self.parts = directory / "parts"
        self.parts.mkdir()
        self.command = directory / "resolvconf"
        self.command.write_text(COMMAND.format(parts=self.parts, file=self.file, kind=kind))
        self.command.chmod(0o755)
        self.lease("192.0.2.53")
        self.driver = Resolvconf("at0", str(self.command), self.file)

    def lease(self, server: str) -> None:
        """What the network gave to eth0; openresolv is not told in the file while another part is exclusive."""
        (self.parts / "if.eth0").write_text(f"nameserver {server}\nsearch home.test\n")
        if not (self.parts / "exclusive").exists():
            self.file.write_text((self.parts / "if.eth0").read_text())

    @property
    def servers(self) -> tuple[str, ...]:
        return parse(self.file.read_text()).servers


@pytest.fixture(params=["openresolv", "debian"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, request.param)


async def test_the_file_names_us_first_and_is_as_before_afterwards(host: Host) -> None:
    assert await host.driver.own() == THEIRS
    assert not await host.driver.apply(OURS)
    assert host.servers[0] == "100.64.0.1"
    assert (await host.driver.own()).servers == ("192.0.2.53",)
    await host.driver.revert()
    assert host.servers == ("192.0.2.53",)


async def test_to_say_the_same_again_changes_nothing(host: Host) -> None:
    await host.driver.own()
    await host.driver.apply(OURS)
    before = host.file.stat().st_mtime_ns
    assert not await host.driver.apply(OURS)
    assert host.file.stat().st_mtime_ns == before


async def test_a_file_that_no_longer_goes_by_us_is_repaired(host: Host) -> None:
    await host.driver.own()
    await host.driver.apply(OURS)
    host.file.write_text("nameserver 192.0.2.53\n")
    assert await host.driver.apply(OURS)
    assert host.servers[0] == "100.64.0.1"


async def test_after_a_crash_the_next_start_puts_back_what_was_there(host: Host) -> None:
    await host.driver.own()
    await host.driver.apply(OURS)
    again = Resolvconf("at0", str(host.command), host.file)
    await again.revert()
    assert host.servers == ("192.0.2.53",)


async def test_a_command_that_refuses_or_is_gone_is_an_error(host: Host) -> None:
    host.command.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(OSError, match="does not take the servers"):
        await host.driver.apply(OURS)
    host.command.unlink()
    with pytest.raises(OSError):
        await host.driver.apply(OURS)
