"""Rights are withdrawn, not requested: a connection whose rights are no longer the peer's is ended by the server.

The agent sees the change in its own document and reconnects by itself; this is for the one that does not, and for one
that floods the bus.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.management.admission.floods import Floods, Sent
from services.management.admission.grants import connection_name, named_peer
from services.management.core.feed.visibility import audiences_of
from services.management.core.model.peer import Peer
from services.management.core.state import Change
from services.management.ports import Fold
from shared.events.logins import HOST_ACCOUNT
from shared.metrics import REGISTRY, Counter
from shared.tasks import end_if_cancelled

GRACE_S = 5.0
"""How long a peer whose audiences changed has to reconnect by itself. A deleted one has none (decision C5)."""

SWEEP_EVERY_S = 10.0
"""How often all connections are looked at: for what happened while no management ran, or was missed, and for floods."""

MOST_BY_NAME = 16
"""Connections asked for one by one; for more, all are looked at."""

OTHER_RIGHTS, FLOOD = "other rights", "flood"

PAGE = 1024
_LIST_ALL = "$SYS.REQ.SERVER.PING.CONNZ"

log = structlog.get_logger()

_ended = Counter("whimbrel_connections_ended", "Connections that were ended", ["reason"], registry=REGISTRY)


class _Connection(msgspec.Struct, frozen=True):
    cid: int
    start: datetime
    in_msgs: int = 0
    in_bytes: int = 0
    authorized_user: str = ""


class _Page(msgspec.Struct, frozen=True):
    now: datetime
    connections: tuple[_Connection, ...] = ()
    offset: int = 0


class _Server(msgspec.Struct, frozen=True):
    id: str


class _Listing(msgspec.Struct, frozen=True):
    """One server's answer to CONNZ."""

    server: _Server
    data: _Page | None = None


class Withdrawal:
    """Every replica does all of it; ending a connection twice does no harm.

    system: a connection to the system account. grace_s, sweep_every_s: for tests that cannot wait.
    """

    def __init__(
        self,
        system: Client,
        fold: Fold,
        floods: Floods,
        *,
        grace_s: float = GRACE_S,
        sweep_every_s: float = SWEEP_EVERY_S,
    ) -> None:
        self._system = system
        self._fold = fold
        self._floods = floods
        self._grace_s = grace_s
        self._sweep_every_s = sweep_every_s
        self._due: dict[str, float] = {}
        self._found: defaultdict[str, list[tuple[_Connection, str]]] = defaultdict(list)
        self._wake = asyncio.Event()
        self._inbox = system.new_inbox()
        fold.listen(self)

    def folded(self, account: str, sequence: int, changes: Sequence[Change]) -> None:
        """Note the names of connections that have other rights than their peer now."""
        now = time.monotonic()
        for change in changes:
            if not isinstance(change.old, Peer):
                continue
            name = self._name(account, change.old)
            if change.new is None:
                self._due[name] = now
            elif isinstance(change.new, Peer) and name != self._name(account, change.new):
                self._due.setdefault(name, now + self._grace_s)
            else:
                continue
            self._wake.set()

    async def run(self) -> None:
        """Sweep once, then see to what is due and sweep now and then, until cancelled."""
        subscription = await self._system.subscribe(self._inbox, cb=self._on_listing)
        try:
            while True:
                end_if_cancelled()
                await self._sweep()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._sweep_every_s):
                        await self._see_to_what_is_due()
        finally:
            if not self._system.is_closed:
                await subscription.unsubscribe()

    async def _see_to_what_is_due(self) -> None:
        while True:
            end_if_cancelled()
            self._wake.clear()
            now = time.monotonic()
            due = [name for name, at in self._due.items() if at <= now]
            for name in due:
                del self._due[name]
            if len(due) > MOST_BY_NAME:
                await self._sweep()
            else:
                for name in due:
                    await self._list({"user": name})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._due.values()) - now if self._due else None):
                    await self._wake.wait()

    async def _sweep(self) -> None:
        await self._list({"acc": HOST_ACCOUNT})

    async def _list(self, which: dict[str, str], *, server: str = "", offset: int = 0) -> None:
        """Have the servers, or one of them, name connections; the answers arrive at `_on_listing`."""
        subject = f"$SYS.REQ.SERVER.{server}.CONNZ" if server else _LIST_ALL
        options: dict[str, Any] = {**which, "auth": True, "limit": PAGE, "offset": offset}
        # A bus that is away ends connections by itself; the sweep after coming back finds what is left.
        with contextlib.suppress(nats.errors.Error):
            await self._system.publish(subject, msgspec.json.encode(options), reply=self._inbox)

    async def _on_listing(self, message: Msg) -> None:
        try:
            listing = msgspec.json.decode(message.data, type=_Listing)
        except msgspec.DecodeError as problem:
            log.warning("unreadable list of connections", problem=str(problem))
            return
        server, page = listing.server.id, listing.data
        if page is None:
            return
        for connection in page.connections:
            if reason := self._reason(server, connection, page.now.timestamp()):
                self._found[server].append((connection, reason))
        if len(page.connections) == PAGE:
            await self._list({"acc": HOST_ACCOUNT}, server=server, offset=page.offset + PAGE)
            return
        self._floods.forget(server, page.now.timestamp())
        # Not before the last page: each connection that ends moves the others up.
        for connection, reason in self._found.pop(server, ()):
            await self._end(server, connection, reason)

    def _reason(self, server: str, connection: _Connection, now: float) -> str:
        """Why the connection is to end, "" when it may go on."""
        sent = Sent(connection.in_msgs, connection.in_bytes, now)
        if self._floods.flooding(server, connection.cid, sent, since=connection.start.timestamp()):
            if named := named_peer(connection.authorized_user):
                self._floods.keep_out(*named, time.time())
            return FLOOD
        return OTHER_RIGHTS if self._outlived(connection.authorized_user) else ""

    def _outlived(self, name: str) -> bool:
        """Whether a connection of that name has other rights than its peer now, and no time left."""
        named = named_peer(name)
        if named is None or name in self._due:
            return False
        account, peer_id = named
        state = self._fold.intent.accounts.get(account)
        peer = state.peers.get(peer_id) if state else None
        return peer is None or name != self._name(account, peer)

    def _name(self, account: str, peer: Peer) -> str:
        groups = self._fold.intent.accounts[account].groups_of(peer)
        return connection_name(account, peer.id, audiences_of(peer.id, groups))

    async def _end(self, server: str, connection: _Connection, reason: str) -> None:
        log.info("ending a connection", reason=reason, connection=connection.authorized_user)
        _ended.labels(reason).inc()
        with contextlib.suppress(nats.errors.Error):
            # The server does nothing for a request without a reply subject.
            await self._system.publish(
                f"$SYS.REQ.SERVER.{server}.KICK", msgspec.json.encode({"cid": connection.cid}), reply=self._inbox
            )
