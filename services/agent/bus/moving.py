"""Reaches the bus anew when this host's addresses are other ones."""

from services.agent.bus.dial import Dialer, ends
from services.agent.bus.feed import Feed
from services.agent.bus.outbox import Outbox
from services.agent.cells import Watch
from services.agent.core.paths.whereabouts import bus_moved
from services.agent.situation import Situation
from shared.tasks import end_if_cancelled


class Moving:
    """Has the feed open another session when the connection there is, or is to be, leaves from elsewhere now."""

    def __init__(self, situation: Situation, dial: Dialer, outbox: Outbox, feed: Feed) -> None:
        self._addresses = situation.addresses
        self._dial = dial
        self._outbox = outbox
        self._feed = feed
        self._watch = Watch(situation.addresses)

    async def run(self) -> None:
        """Until cancelled."""
        before = self._addresses.value.where
        while True:
            end_if_cancelled()
            await self._watch.wait()
            after, connection = self._addresses.value.where, self._outbox.connection
            if bus_moved(before, after, self._dial.addresses(), ends(connection) if connection else None):
                self._feed.moved()
            before = after
