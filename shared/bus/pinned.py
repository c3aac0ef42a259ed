"""A durable consumer that serves one of its clients at a time (JetStream priority groups, ADR-42).

nats-py has no fields for it, so the requests are written here.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError

from shared.bus.patience import Patience, Trouble
from shared.bus.streams import ANSWER_WITHIN_S
from shared.tasks import end_if_cancelled

PIN_TIMEOUT_S = 2.0
"""The server gives the pin to another client when its holder has not asked for this long."""

ACK_WAIT_S = 1.0
"""The server delivers an unacknowledged message again after this long: to the holder's successor, if it died. Not much
sooner, as it also does so while an owner is busy: 256 messages of a request, once a second."""

PULL_S = 0.6
"""One request for messages stands for this long. Well below PIN_TIMEOUT_S: the pin is kept by asking."""

PULL_SLACK_S = 1.0
RETRY_S = 0.25
BATCH = 256

_API = "$JS.API.CONSUMER"
_NANOSECONDS = 1_000_000_000
_LOST, _EXPIRED = "423", "408"

log = structlog.get_logger()


class _Answer(msgspec.Struct):
    error: dict[str, Any] | None = None


class PinnedConsumer:
    """Pulls messages of a stream while this client is the one that is served.

    name: of the consumer, and of its one priority group, the one that pins. filter_subject: of the first delivery only
    the last message per subject matters.
    on_message: called with each message, which has to be acknowledged, and the pin it came under; the pin is
    another one whenever another client may have been served in between.
    on_lost: called when the server says that the pin was taken away.
    wanted: whether to go on asking; while it says no, the server gives the pin to another client. quiet_s: trouble that
    is over sooner is not worth a line.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        name: str,
        filter_subject: str,
        *,
        on_message: Callable[[Msg, str], None],
        on_lost: Callable[[], None],
        wanted: Callable[[], bool],
        quiet_s: float = 0.0,
    ) -> None:
        self._client = client
        self._name = name
        self._consumer = f"{stream}.{name}"
        self._config = {
            "name": name,
            "durable_name": name,
            "filter_subject": filter_subject,
            "deliver_policy": "last_per_subject",
            "ack_policy": "explicit",
            "ack_wait": round(ACK_WAIT_S * _NANOSECONDS),
            "priority_policy": "pinned_client",
            "priority_groups": [name],
            "priority_timeout": round(PIN_TIMEOUT_S * _NANOSECONDS),
        }
        self._create = {"stream_name": stream, "config": self._config}
        self._create_subject = f"{_API}.CREATE.{self._consumer}.{filter_subject}"
        self._on_message = on_message
        self._on_lost = on_lost
        self._wanted = wanted
        self._quiet_s = quiet_s
        self._inbox = client.new_inbox()
        self._pin = ""
        self._request = 0
        self._left = 0
        self._status = ""
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Make the consumer and keep one request standing, until cancelled; then give the pin back."""
        subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._arrived)
        trouble = Trouble(f"{self._name} cannot pull", f"{self._name} pulls again", quiet_s=self._quiet_s)
        try:
            await Patience(trouble, every_s=RETRY_S).keep(partial(self._keep_pulling, trouble))
        finally:
            if not self._client.is_closed:
                await self._release()
                await subscription.unsubscribe()

    async def _keep_pulling(self, trouble: Trouble) -> None:
        """Return once the consumer does not answer."""
        await self._ensure()
        trouble.over()
        while self._wanted() and await self._pull():
            end_if_cancelled()
        log.info("a pinned consumer does not answer, making sure of it", consumer=self._consumer)

    async def _ensure(self) -> None:
        body = msgspec.json.encode(self._create)
        reply = await self._client.request(self._create_subject, body, timeout=ANSWER_WITHIN_S)
        error = msgspec.json.decode(reply.data, type=_Answer).error
        if error:
            raise APIError.from_error(error)

    async def _pull(self) -> bool:
        """Ask once, until the batch is full or the request expires. False when the consumer seems to be gone."""
        self._request += 1
        self._left = BATCH
        self._status = ""
        self._ended.clear()
        request: dict[str, Any] = {"batch": BATCH, "expires": round(PULL_S * _NANOSECONDS), "group": self._name}
        if self._pin:
            request["id"] = self._pin
        await self._client.publish(
            f"{_API}.MSG.NEXT.{self._consumer}", msgspec.json.encode(request), reply=f"{self._inbox}.{self._request}"
        )
        try:
            async with asyncio.timeout(PULL_S + PULL_SLACK_S):
                await self._ended.wait()
        except TimeoutError:
            return False
        return self._status in ("", _EXPIRED, _LOST)

    async def _arrived(self, message: Msg) -> None:
        headers = message.headers or {}
        if message.reply:
            self._pin = headers.get("Nats-Pin-Id", "")
            self._left -= 1
            self._on_message(message, self._pin)
        elif message.subject == f"{self._inbox}.{self._request}":
            self._status = headers.get("Status", "")
            if self._status == _LOST:
                self._pin = ""
                self._on_lost()
        if self._status or self._left <= 0:
            self._ended.set()

    async def _release(self) -> None:
        if self._pin:
            self._pin = ""
            await unpin(self._client, self._consumer)


async def unpin(client: Client, consumer: str) -> None:
    """Have the server give the pin to whoever asks next. consumer: "<stream>.<name>"."""
    await client.publish(f"{_API}.UNPIN.{consumer}", msgspec.json.encode({"group": consumer.rpartition(".")[2]}))
