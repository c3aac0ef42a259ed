"""What the API's long answers cost a replica, and how long each holds its event loop, at three sizes of account.

The application is asked in this process, without HTTP around it. A figure is CPU time of this process for one request,
after somebody changed one peer and one session since the one before; the hold is the longest time without a turn for
others. Reference in the same run: encoding the same answer anew, from values that are there already.
"""

import asyncio
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from litestar import Litestar
from msgspec.structs import replace

from services.management.api.app import create_app
from services.management.api.deps import Deps
from services.management.api.events import EventResponse
from services.management.api.groups import GroupResponse
from services.management.api.peeranswers import PeerResponse
from services.management.core.commands.groups import GroupRequest, update_group
from services.management.core.commands.routes import RouteRequest, update_route
from services.management.core.entities import Entity
from services.management.core.model.commit import Commit
from services.management.core.model.route import Route
from services.management.core.state import Intent
from services.management.readmodel.store import Batch, Checkpoint, Store
from services.management.troubles import Troubles
from shared.events.facts import SessionFact
from tests import builders
from tests.bench.estates import SIZES, TOKEN, Size, commits, routes
from tests.bench.figures import Figure, figure
from tests.builders import ACCOUNT, NOW, group, peer
from tests.fakes.log import FakeLog

TIMES = 20
TICK_S = 0.0005
MANY_ROUTES = 6_000
JOINING = 1_000
AIMS = {"peers": "≤ 30 at 5,000", "groups": "≤ 5", "events/audit": "≤ 20"}


class Facts:
    """Each peer's session."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[str, str], SessionFact] = {}

    def session(self, account: str, peer: str, /) -> SessionFact | None:
        return self.sessions.get((account, peer))

    def report(self, account: str, peer: str, /) -> None:
        return None

    def clients(self, account: str, route: str, routing_peer: str, /) -> int:
        return 0

    def heard(self, peer: str, since: float) -> None:
        self.sessions[ACCOUNT, peer] = SessionFact(peer_id=peer, epoch=1, connected=True, since=since)


class Replica:
    """The application over an account of that size, with the commits that made it in a read model's file."""

    def __init__(self, size: Size, store: Store) -> None:
        self.size = size
        self.intent = Intent()
        self.facts = Facts()
        self._store = store
        self._renamed = 0
        deps = Deps(
            intent=self.intent,
            commit=FakeLog(self.intent).commit,
            events=store.events,
            facts=self.facts,
            last_words=lambda _account: {},
            resolutions=lambda _account: {},
            now=lambda: NOW,
            new_id=lambda: "new",
            new_setup_key=lambda: "",
            troubles=Troubles(),
        )
        self.app = create_app(deps)

    async def found(self) -> None:
        events: list[tuple[int, Commit]] = []
        for sequence, commit in enumerate(commits(self.size), 1):
            self.intent.apply(sequence, commit)
            events.append((sequence, replace(commit, upserts=())))
        await self._store.save(Batch(Checkpoint(len(events), b""), {}, {}, events))
        for number, id in enumerate(self.intent.accounts[ACCOUNT].peers):
            self.facts.heard(id, NOW + number)

    async def change(self) -> None:
        """Somebody renames a peer, and another is heard anew."""
        self._renamed += 1
        peers = self.intent.accounts[ACCOUNT].peers
        one, other = peers["p00007"], "p00011"
        commit = builders.commit(replace(one, name=f"renamed-{self._renamed}"))
        self.intent.apply(self.intent.sequence + 1, commit)
        self.facts.heard(other, NOW + self._renamed)
        await self._store.save(Batch(Checkpoint(1, b""), {}, {}, [(self.intent.sequence, replace(commit, upserts=()))]))


def measure(sizes: Iterable[Size] = SIZES) -> list[Figure]:
    gc.freeze()  # as process.run does
    return [*(one for size in sizes for one in uvloop.run(_answers(size))), *_edits()]


async def _answers(size: Size) -> list[Figure]:
    figures = []
    async with _replica(size) as replica:
        for path, response in (("peers", PeerResponse), ("groups", GroupResponse), ("events/audit", EventResponse)):
            name = f"{size}: GET /{path}"
            loop = Loop()
            watching = asyncio.create_task(loop.watch())
            begin = time.process_time()
            parts = await ask(replica.app, path)
            first, taken, again = (time.process_time() - begin) * 1000, [], []
            for _ in range(TIMES):
                await replica.change()
                begin = time.process_time()
                parts = await ask(replica.app, path)
                taken.append((time.process_time() - begin) * 1000)
            watching.cancel()
            body = b"".join(parts)
            values = msgspec.json.decode(body, type=list[response])  # type: ignore[valid-type]
            for _ in range(TIMES):
                begin = time.process_time()
                assert len(msgspec.json.encode(values)) == len(body)
                again.append((time.process_time() - begin) * 1000)
            figures += [
                figure(f"{name}, {len(body) / 1e6:.1f} MB", "ms", taken, AIMS[path]),
                figure("the first of a replica", "ms", [first]),
                figure("longest hold of the event loop", "ms", [loop.longest * 1000], "≤ 10"),
                figure("reference: encoding it anew", "ms", again),
            ]
    return figures


@asynccontextmanager
async def _replica(size: Size) -> AsyncIterator[Replica]:
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as directory:
        store = await Store.open(Path(directory) / "readmodel.db")
        try:
            replica = Replica(size, store)
            await replica.found()
            yield replica
        finally:
            await store.close()


async def ask(app: Litestar, path: str) -> list[bytes]:
    """The body of an answer that must be 200, in the pieces that it came in."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": f"/api/{path}",
        "raw_path": f"/api/{path}".encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"authorization", f"Token {TOKEN}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200, message
        parts.append(message.get("body", b""))

    await app(scope, receive, send)  # type: ignore[arg-type]
    return parts


class Loop:
    """Notices how long the event loop was held, in seconds of this thread's CPU: other processes do not count."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


def _edits() -> list[Figure]:
    """Commands that compare with other routes."""
    figures = []
    for number in (MANY_ROUTES // 100, MANY_ROUTES):
        size = Size(JOINING * 2, 20)
        crowd = [peer(f"extra{one}", "office") for one in range(JOINING)]
        state = builders.state(
            *_without_routes(size),
            *(replace(one, peer_groups=("crowd",), groups=("office",)) for one in routes(size, number)),
            *(group("crowd"), group("office")),
            *crowd,
        )
        request = RouteRequest(network_id="new", network="10.0.0.0/16", peer="p00000", metric=7, groups=("office",))
        everybody = GroupRequest(name="crowd", peers=tuple(one.id for one in crowd))
        context = builders.context()

        def edit() -> object:
            return update_route(state, "route00001", request, context)  # noqa: B023

        def join() -> object:
            return update_group(state, "crowd", everybody, context)  # noqa: B023

        aim = "≤ 5" if number == MANY_ROUTES else "reference"
        figures += [
            figure(f"editing a route among {number:,}", "ms", _timed(edit), aim),
            figure(f"{JOINING:,} peers join the group that serves {number:,} routes", "ms", _timed(join, 3)),
        ]
    return figures


def _without_routes(size: Size) -> Iterator[Entity]:
    for commit in commits(size, 500):
        for entity in commit.upserts:
            if not isinstance(entity, Route):
                yield entity


def _timed(work: Callable[[], object], times: int = TIMES) -> list[float]:
    taken = []
    for _ in range(times):
        begin = time.process_time()
        work()
        taken.append((time.process_time() - begin) * 1000)
    return taken
