"""Sends the beacons of FEED while this replica writes it."""

import asyncio
import contextlib
import time

import nats.errors
from nats.aio.client import Client

from services.management.core.feed.beacons import Beacons
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.subjects import FeedKey
from shared.tasks import end_if_cancelled

AT_ONCE = 200
BETWEEN_S = 0.05
"""A new writer has a beacon for each audience: 4,000 a second."""


class BeaconSender:
    """begin, stood, stored, end: as Beacons takes them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._beacons = Beacons()
        self._wake = asyncio.Event()

    def stood(self, key: FeedKey, sequence: int) -> None:
        self._beacons.stood((key.account, key.audience), sequence, time.monotonic())
        self._wake.set()

    def stored(self, key: FeedKey, sequence: int) -> None:
        self._beacons.stored((key.account, key.audience), sequence, time.monotonic())
        self._wake.set()

    def begin(self) -> None:
        self._beacons.begin()

    def end(self) -> None:
        self._beacons.end()

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        while True:
            end_if_cancelled()
            self._wake.clear()
            for (account, audience), beacon in self._beacons.take(time.monotonic(), AT_ONCE):
                with contextlib.suppress(nats.errors.Error):  # it is said again
                    await self._client.publish(subjects.beacon(account, audience), encode(beacon))
            await asyncio.sleep(BETWEEN_S)
            await self._rest()

    async def _rest(self) -> None:
        due = self._beacons.next_deadline()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                await self._wake.wait()
