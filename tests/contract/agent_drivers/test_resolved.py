"""systemd-resolved as the agent tells it, over a real D-Bus daemon; who has its name there notes what it is told."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from socket import if_nametoindex
from typing import Any

import pytest
from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from services.agent.core.dns.hostdns import Wanted
from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.drivers.resolved import RESOLVED, NoLink, Resolved

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")

LINK = if_nametoindex("lo")
WANTED = Wanted(server="100.64.0.1", domains=("corp.test", "whimbrel.test"), search=("whimbrel.test",))
TOLD = [
    ("SetLinkDNS", [LINK, [(2, bytes((100, 64, 0, 1)))]]),
    ("SetLinkDomains", [LINK, [("corp.test", True), ("whimbrel.test", False)]]),
    ("SetLinkDefaultRoute", [LINK, False]),
    ("SetLinkDNSSEC", [LINK, "no"]),
    ("SetLinkDNSOverTLS", [LINK, "no"]),
    ("FlushCaches", []),
]


class Daemon:
    """A bus, and resolved's name on it. calls: what it was told. refuses: a member that is answered by an error."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.calls: list[tuple[str, list[Any]]] = []
        self.refuses = ""
        self._service: MessageBus | None = None

    async def start(self) -> None:
        """Anew, with another name of its connection, as after a restart of the service."""
        await self.stop()
        self._service = await MessageBus(self.address).connect()
        self._service.add_message_handler(self._heard)
        await self._service.request_name(RESOLVED)

    async def stop(self) -> None:
        if self._service is not None:
            self._service.disconnect()
            await self._service.wait_for_disconnect()  # type: ignore[no-untyped-call]
            self._service = None

    def take(self) -> list[tuple[str, list[Any]]]:
        calls, self.calls = self.calls, []
        return calls

    def _heard(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.destination != RESOLVED:
            return None
        member = message.member or ""
        if member == self.refuses:
            return Message.new_error(message, "org.freedesktop.DBus.Error.AccessDenied", "you may not")
        self.calls.append((member, list(message.body)))
        return Message.new_method_return(message)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    address = f"unix:path={tmp_path / 'bus'}"
    words = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address"]
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        await process.stdout.readline()  # it listens
        found = Daemon(address)
        await found.start()
        yield found
        await found.stop()
    finally:
        process.terminate()
        await process.communicate()


@pytest.fixture
async def driver(daemon: Daemon) -> AsyncIterator[Resolved]:
    found = Resolved("lo", daemon.address)
    yield found
    found.close()


async def test_our_link_has_our_server_and_the_domains_that_we_answer_for(daemon: Daemon, driver: Resolved) -> None:
    assert await driver.is_there()
    assert not await driver.apply(WANTED)
    assert daemon.take() == TOLD


async def test_who_answers_for_everything_is_told_so(daemon: Daemon, driver: Resolved) -> None:
    await driver.apply(Wanted(server="fd00:64::1", default=True))
    told = dict(daemon.take())
    assert told["SetLinkDNS"] == [LINK, [(10, bytes.fromhex("fd000064000000000000000000000001"))]]
    assert told["SetLinkDomains"] == [LINK, [(".", True)]]
    assert told["SetLinkDefaultRoute"] == [LINK, True]


async def test_the_same_is_told_once_and_again_after_the_service_was_started_anew(
    daemon: Daemon, driver: Resolved
) -> None:
    await driver.apply(WANTED)
    daemon.take()
    assert not await driver.apply(WANTED)
    assert daemon.take() == []
    await daemon.start()
    assert await driver.apply(WANTED)
    assert daemon.take() == TOLD


async def test_the_link_is_given_back_and_one_that_is_gone_needs_nothing(daemon: Daemon, driver: Resolved) -> None:
    await driver.apply(WANTED)
    daemon.take()
    await driver.revert()
    assert daemon.take() == [("RevertLink", [LINK]), ("FlushCaches", [])]
    gone = Resolved("no-such-link", daemon.address)
    await gone.revert()
    with pytest.raises(NoLink):
        await gone.apply(WANTED)
    assert daemon.take() == []
    gone.close()


async def test_a_refusal_is_said_in_the_words_of_the_service_and_tried_again(daemon: Daemon, driver: Resolved) -> None:
    daemon.refuses = "SetLinkDomains"
    with pytest.raises(OSError, match="SetLinkDomains: you may not"):
        await driver.apply(WANTED)
    daemon.refuses = ""
    daemon.take()
    await driver.apply(WANTED)
    assert daemon.take() == TOLD


async def test_a_service_that_goes_in_the_middle_is_an_error_and_comes_back(daemon: Daemon, driver: Resolved) -> None:
    await driver.apply(WANTED)
    await daemon.stop()
    assert not await driver.is_there()
    with pytest.raises(OSError):
        await driver.apply(WANTED)
    await daemon.start()
    assert await driver.apply(WANTED)


async def test_without_a_bus_it_is_not_there(tmp_path: Path) -> None:
    alone = Resolved("lo", f"unix:path={tmp_path / 'none'}")
    assert not await alone.is_there()
    with pytest.raises(OSError):
        await alone.apply(WANTED)


async def test_whom_other_links_ask_stands_in_its_file(tmp_path: Path) -> None:
    uplinks = tmp_path / "resolv.conf"
    uplinks.write_text("nameserver 192.0.2.1\nnameserver 100.64.0.1\nsearch home.test\n")
    assert await Resolved("lo", uplinks=uplinks).own() == ResolvConf(servers=("192.0.2.1", "100.64.0.1"))
    with pytest.raises(OSError):
        await Resolved("lo", uplinks=tmp_path / "none").own()
