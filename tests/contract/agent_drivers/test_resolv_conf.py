"""/etc/resolv.conf as the agent writes it and puts it back: a file, a link, one that is mounted, beside others."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.agent.core.dns.hostdns import MARK, FileBefore, Wanted
from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.drivers.resolv_conf import ResolvConfFile
from services.agent.state import statefile

OURS = Wanted(server="100.64.0.1", search=("whimbrel.test",))
THEIRS = "# of the network\nsearch home.test\nnameserver 192.0.2.53\nnameserver 192.0.2.54\noptions rotate edns0\n"
WRITTEN = f"{MARK}\nnameserver 100.64.0.1\nsearch whimbrel.test\noptions edns0\n"
OWN = ResolvConf(servers=("192.0.2.53", "192.0.2.54"), search=("home.test",), options=("rotate", "edns0"))


class Etc:
    """A directory with the file, and a state directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "etc" / "resolv.conf"
        self.state = directory / "state"
        self.path.parent.mkdir()
        self.state.mkdir()
        self.driver = self.started()

    def started(self) -> ResolvConfFile:
        """As an agent finds it that starts now."""
        return ResolvConfFile(statefile.resolv_conf(self.state), self.path)

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def left(self) -> set[str]:
        return set(os.listdir(self.path.parent))


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    found = Etc(tmp_path)
    found.path.write_text(THEIRS)
    return found


async def test_the_file_names_us_alone_and_is_put_back_byte_by_byte(etc: Etc) -> None:
    etc.path.write_bytes(THEIRS.encode() + b"# b\xfcro \xff\n")
    await etc.driver.apply(OURS)
    assert etc.text == WRITTEN
    assert await etc.driver.own() == OWN
    await etc.driver.revert()
    assert etc.path.read_bytes() == THEIRS.encode() + b"# b\xfcro \xff\n"
    assert etc.left == {"resolv.conf"}


async def test_after_a_crash_the_next_start_puts_back_what_was_there(etc: Etc) -> None:
    await etc.driver.apply(OURS)
    again = etc.started()
    assert await again.own() == OWN
    await again.revert()
    assert etc.text == THEIRS


async def test_to_put_back_twice_or_without_having_written_changes_nothing(etc: Etc) -> None:
    await etc.driver.revert()
    assert etc.text == THEIRS
    await etc.driver.apply(OURS)
    await etc.driver.revert()
    await etc.driver.revert()
    assert etc.text == THEIRS


async def test_what_another_program_writes_is_taken_over_as_the_hosts_own_and_ours_is_written_again(etc: Etc) -> None:
    await etc.driver.apply(OURS)
    etc.path.write_text("nameserver 198.51.100.1\n")
    assert await etc.driver.own() == ResolvConf(servers=("198.51.100.1",))
    assert await etc.driver.apply(OURS)
    assert etc.text == f"{MARK}\nnameserver 100.64.0.1\nsearch whimbrel.test\n"
    assert await etc.driver.own() == ResolvConf(servers=("198.51.100.1",))
    await etc.driver.revert()
    assert etc.text == "nameserver 198.51.100.1\n"


async def test_what_another_program_wrote_last_stays_when_we_stop(etc: Etc) -> None:
    await etc.driver.apply(OURS)
    etc.path.write_text("nameserver 198.51.100.1\n")
    await etc.driver.revert()
    assert etc.text == "nameserver 198.51.100.1\n"


async def test_a_file_that_names_nobody_but_us_is_nothing_to_go_back_to(etc: Etc) -> None:
    await etc.driver.apply(OURS)
    etc.path.write_text("nameserver 100.64.0.1\n")
    await etc.driver.apply(OURS)
    await etc.driver.revert()
    assert etc.text == THEIRS


async def test_to_say_the_same_again_writes_nothing(etc: Etc) -> None:
    await etc.driver.apply(OURS)
    before = etc.path.stat()
    assert not await etc.driver.apply(OURS)
    assert etc.path.stat().st_ino == before.st_ino
    assert etc.path.stat().st_mtime_ns == before.st_mtime_ns


async def test_another_server_of_ours_is_written_and_is_nobodys_change(etc: Etc) -> None:
    await etc.driver.apply(OURS)
    assert not await etc.driver.apply(Wanted(server="127.0.0.1"))
    assert "nameserver 127.0.0.1\n" in etc.text
    await etc.driver.revert()
    assert etc.text == THEIRS


async def test_a_link_is_a_link_again_and_what_it_leads_to_is_never_written(etc: Etc) -> None:
    target = etc.path.with_name("stub.conf")
    etc.path.rename(target)
    etc.path.symlink_to("stub.conf")
    await etc.driver.apply(OURS)
    assert (etc.text, etc.path.is_symlink(), target.read_text()) == (WRITTEN, False, THEIRS)
    await etc.driver.revert()
    assert (os.readlink(etc.path), etc.text) == ("stub.conf", THEIRS)


async def test_where_there_was_no_file_there_is_none_again(etc: Etc) -> None:
    etc.path.unlink()
    assert await etc.driver.own() == ResolvConf()
    await etc.driver.apply(OURS)
    assert etc.text == f"{MARK}\nnameserver 100.64.0.1\nsearch whimbrel.test\n"
    await etc.driver.revert()
    assert etc.left == set()


async def test_a_link_that_leads_nowhere_is_put_back(etc: Etc) -> None:
    etc.path.unlink()
    etc.path.symlink_to("nowhere")
    await etc.driver.apply(OURS)
    await etc.driver.revert()
    assert os.readlink(etc.path) == "nowhere"


async def test_a_directory_that_cannot_be_written_is_said(etc: Etc) -> None:
    etc.path.unlink()
    etc.path.mkdir()
    with pytest.raises(OSError):
        await etc.driver.apply(OURS)
    assert etc.left == {"resolv.conf"}


@pytest.fixture
def mounted(etc: Etc, tmp_path: Path) -> Iterator[Path]:
    """The file as containers have it: another one is mounted over it."""
    over = tmp_path / "over"
    over.write_text(THEIRS)
    subprocess.run(["mount", "--bind", str(over), str(etc.path)], check=True)
    yield over
    subprocess.run(["umount", str(etc.path)], check=True)


@pytest.mark.root
async def test_a_file_that_is_mounted_is_written_over_and_put_back(etc: Etc, mounted: Path) -> None:
    await etc.driver.apply(OURS)
    assert mounted.read_text() == WRITTEN
    await etc.driver.revert()
    assert mounted.read_text() == THEIRS
    assert etc.left == {"resolv.conf"}


def test_what_was_there_before_survives_on_disk(tmp_path: Path) -> None:
    statefile.resolv_conf(tmp_path).keep(FileBefore(there=True, link="a", text="b\xff"))
    assert statefile.resolv_conf(tmp_path).value == FileBefore(there=True, link="a", text="b\xff")
