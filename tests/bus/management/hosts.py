"""Raw connections of hosts, as the bus admits them: what they try, and what the server says to it."""

import asyncio
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.address import parse_bus
from shared.bus.client import BusClient
from shared.bus.keys import new_seed, public_key
from shared.bus.transport import BusTransport
from shared.events import subjects

REFUSED_WITHIN_S = 15.0
ANSWER_WITHIN_S = 30.0
ASKED = b"x"


class Host:
    """A connection with a host's own key pair. It is used as a hostile one would: any subject is tried."""

    def __init__(self, url: str, name: str, seed: str = "") -> None:
        self.name = name
        self.seed = seed or new_seed("user")
        self.bus_key = public_key(self.seed)
        self.closed = asyncio.Event()
        self.violations: list[str] = []
        self.client: Client
        self._url = url

    async def connect(self, **presented: Any) -> "Host":
        """Come in as the peer of this key pair, or with what is `presented` instead (nats-py's options)."""

        async def on_error(problem: Exception) -> None:
            self.violations.append(str(problem))

        async def on_loss() -> None:
            self.closed.set()

        bus = parse_bus(self._url)
        self.client = BusClient(BusTransport(bus))
        await self.client.connect(
            list(bus.urls),
            **(presented or {"nkeys_seed_str": self.seed}),
            inbox_prefix=subjects.inbox(self.name),
            allow_reconnect=False,
            connect_timeout=5,
            error_cb=on_error,
            disconnected_cb=on_loss,
            closed_cb=on_loss,
        )
        return self

    async def may_publish(self, subject: str, data: bytes = ASKED, reply: str = "") -> bool:
        """Whether the server took the message; the answer to a round trip after it comes after its complaint."""
        return not await self._complaints(self.client.publish(subject, data, reply=reply))

    async def may_subscribe(self, subject: str, queue: str = "") -> bool:
        return not await self._complaints(self.client.subscribe(subject, queue=queue, cb=_ignore))

    async def _complaints(self, asking: Any) -> list[str]:
        before = len(self.violations)
        await asking
        for _ in range(2):  # a PING can overtake what was written before it; a second one cannot
            await self.client.flush(REFUSED_WITHIN_S)  # type: ignore[arg-type]
        return self.violations[before:]

    async def ask(self, subject: str, body: object = None) -> dict[str, Any]:
        """The JSON answer of the bus; {} when there is none."""
        data = b"" if body is None else msgspec.json.encode(body)
        try:
            answer = await self.client.request(subject, data, timeout=ANSWER_WITHIN_S)
        except nats.errors.Error:
            return {}
        return msgspec.json.decode(answer.data, type=dict[str, Any])

    async def make_catch_up(self, account: str, audience: str, **config: Any) -> dict[str, Any]:
        """What the bus says to a consumer for reading an audience's documents."""
        pattern = subjects.feed_of(account, audience)
        config = {
            "name": subjects.catch_up_consumer(self.name, audience),
            "filter_subject": pattern,
            "deliver_policy": "all",
            "ack_policy": "none",
            "mem_storage": True,
            "inactive_threshold": 5_000_000_000,
            **config,
        }
        subject = subjects.create_catch_up(account, self.name, audience)
        return await self.ask(subject, {"stream_name": "FEED", "config": config})

    async def pull(self, audience: str) -> list[Msg]:
        """Everything a consumer made before brings."""
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        request = b'{"batch": 100, "no_wait": true}'
        await self.client.publish(subjects.pull_catch_up(self.name, audience), request, reply=inbox)
        messages: list[Msg] = []
        while True:
            message = await subscription.next_msg(timeout=2)
            if message.headers and "Status" in message.headers:
                return messages
            messages.append(message)

    async def leave(self) -> None:
        await self.client.close()


async def _ignore(_: Msg) -> None: ...
