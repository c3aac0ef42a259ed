"""A feed's sessions, without a bus."""

from collections.abc import Callable

from services.agent.bus.dial import Dialer
from services.agent.bus.feed import Feed
from services.agent.bus.incoming import boottime
from services.agent.bus.outbox import Outbox
from services.agent.bus.session import Over, Peer, Session
from services.agent.core.documents import FeedView
from services.agent.core.reconcile.desired import Local
from services.agent.situation import Situation
from shared.bus.keys import new_seed
from shared.bus.undecodable import Undecodables


class Opening(Feed):
    """meanwhile: happens when a session has just been opened."""

    def __init__(self, meanwhile: Callable[[Feed], None]) -> None:
        self.outbox = Outbox()
        situation, seed = Situation(Local(public_key="", listen_port=1)), new_seed("user")
        super().__init__(
            situation,
            Dialer("tls://127.0.0.1:1"),
            Peer("acc", "me"),
            seed,
            FeedView(),
            self.outbox,
            lambda _key, _sealed: None,
            lambda _subject, _data: None,
            Undecodables(),
        )
        self._meanwhile = meanwhile

    async def _attempt(self) -> Session:
        self._meanwhile(self)
        return Session(self._peer, self._reading, self._incoming)


async def test_a_session_is_left_when_this_host_moves_in_the_moment_that_it_is_opened() -> None:
    feed = Opening(Feed.moved)
    began_at = boottime()
    session = await feed._open(0)
    assert (session.over, feed.outbox.session) == (Over.MOVED, session)
    assert boottime() - began_at < 1


async def test_a_session_of_a_host_that_stays_goes_on() -> None:
    feed = Opening(lambda _: None)
    session = await feed._open(0)
    assert (session.over, feed.outbox.session) == (None, session)
