"""Has the owner's pin given to another replica as soon as the owner's connection ends.

The server by itself waits until the pin's holder has not asked for a while. It tells at once, though, whose connection
ended; and the owner's claim of FEED says which connection holds the pin.
"""

import asyncio
import random
from typing import Any

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.codec import decode
from shared.bus.patience import OF_THE_BUS, Trouble
from shared.bus.pinned import unpin
from shared.bus.streams import ANSWER_WITHIN_S, FEED
from shared.errors import Undecodable
from shared.events import subjects
from shared.tasks import end_if_cancelled

STAGGER_S = 0.1
"""Replicas look at a random moment within this time, so that the second one finds that the first has acted."""

log = structlog.get_logger()


class Connection(msgspec.Struct, frozen=True):
    """One connection to the bus. server: id of the server. number: of the connection there."""

    server: str = ""
    number: int = 0


def connection_of(client: Client) -> Connection:
    """The client's connection as it is now: each time it reconnects it is another one."""
    return Connection(client._server_info.get("server_id", ""), client.client_id or 0)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner writes to claim FEED. pin: that it owns by. holder: the connection that keeps the pin."""

    pin: str = ""
    holder: Connection = Connection()


class _Server(msgspec.Struct):
    id: str = ""


class _Client(msgspec.Struct):
    id: int = 0


class _Gone(msgspec.Struct):
    """The server's word that a connection ended, as far as it matters here."""

    server: _Server
    client: _Client


class _Group(msgspec.Struct):
    group: str = ""
    pinned_client_id: str = ""


class _Info(msgspec.Struct):
    priority_groups: tuple[_Group, ...] = ()


class Succession:
    """Watches for the end of the owner's connection.

    client: with management's rights. system: as admission has it. consumer: "<stream>.<name>" of the pinned consumer.
    """

    def __init__(self, client: Client, system: Client, consumer: str) -> None:
        self._client = client
        self._system = system
        self._consumer = consumer
        self._ended = asyncio.Queue[Connection]()
        self._trouble = Trouble("who owned FEED is not known", "who owned FEED is known again")

    async def run(self) -> None:
        """Until cancelled."""
        subscription = await self._system.subscribe(subjects.SERVICE_GONE, cb=self._arrived)
        try:
            while True:
                end_if_cancelled()
                gone = await self._ended.get()
                try:
                    await self._look(gone)
                    self._trouble.over()
                except OF_THE_BUS as problem:  # the server gives the pin away by itself, a little later
                    self._trouble.tell(problem)
        finally:
            if not self._system.is_closed:
                await subscription.unsubscribe()

    async def _arrived(self, message: Msg) -> None:
        try:
            gone = msgspec.json.decode(message.data, type=_Gone)
        except msgspec.DecodeError:
            return  # a server of another version tells otherwise, and the pin times out
        self._ended.put_nowait(Connection(gone.server.id, gone.client.id))

    async def _look(self, gone: Connection) -> None:
        """Take the pin away, if it is still the one that the ended connection kept."""
        claim = await self._claim()
        if claim.holder != gone or not claim.pin:
            return
        await asyncio.sleep(random.uniform(0, STAGGER_S))
        if await self._pinned() == claim.pin:
            log.info("the owner of FEED is gone, another replica takes over")
            await unpin(self._client, self._consumer)

    async def _claim(self) -> Claim:
        """The newest one; an empty one when an older version wrote it."""
        newest = await self._client.jetstream(timeout=ANSWER_WITHIN_S).get_last_msg(FEED, subjects.FEED_OWNER)
        try:
            return decode(subjects.FEED_OWNER, newest.data or b"", Claim)
        except Undecodable:
            return Claim()

    async def _pinned(self) -> str:
        """By which pin the consumer serves now, "" for none."""
        subject, group = f"$JS.API.CONSUMER.INFO.{self._consumer}", self._consumer.rpartition(".")[2]
        answer = await self._client.request(subject, timeout=ANSWER_WITHIN_S)
        found: Any = msgspec.json.decode(answer.data, type=_Info)
        return next((one.pinned_client_id for one in found.priority_groups if one.group == group), "")
