"""Facts of deleted peers and routes are removed, and no others."""

import asyncio
from pathlib import Path

from services.management import factgc
from services.management.core.entities import Ref
from shared.bus.streams import FACTS
from shared.events import subjects
from tests import builders
from tests.builders import ACCOUNT
from tests.bus.management.replica import append, running
from tests.support.bus import Bus, eventually


async def facts(bus: Bus) -> set[str]:
    info = await bus.management.jetstream().stream_info(FACTS, subjects_filter=">")
    return set(info.state.subjects or ())


async def test_facts_go_with_what_they_are_about(account: Bus, tmp_path: Path) -> None:
    await append(account, builders.commit(builders.peer("alice"), builders.peer("bob"), builders.route("lan")))
    signal, resolver = await account.service("signal"), await account.service("resolver")
    for subject in (subjects.session_fact(ACCOUNT, "alice"), subjects.session_fact(ACCOUNT, "bob")):
        await signal.jetstream().publish(subject, b"x")
    for name in ("lan", "gone"):
        await resolver.jetstream().publish(subjects.resolution_fact(ACCOUNT, name), b"x")
    kept = {subjects.session_fact(ACCOUNT, "alice"), subjects.resolution_fact(ACCOUNT, "lan")}
    async with running(account, tmp_path / "a.db") as replica:
        sweeping = asyncio.create_task(factgc.sweep(replica.connection, replica.readmodel, every_s=0.05))
        try:
            await eventually(lambda: holds(account, kept | {subjects.session_fact(ACCOUNT, "bob")}))
            await append(account, builders.commit(deletes=(Ref("peer", "bob"),)))
            await eventually(lambda: holds(account, kept))
            # Another replica enrolled it a moment ago, and this one's fold does not know it yet.
            replica.lag()
            await append(account, builders.commit(builders.peer("carol")))
            await signal.jetstream().publish(subjects.session_fact(ACCOUNT, "carol"), b"x")
            await eventually(lambda: "carol" in replica.account.peers)
            assert await holds(account, kept | {subjects.session_fact(ACCOUNT, "carol")})
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)


async def holds(bus: Bus, expected: set[str]) -> bool:
    return await facts(bus) == expected
