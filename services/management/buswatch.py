"""Looks at the bus now and then: do the streams take messages?"""

import asyncio

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError

from services.management.ports import TroublesPort
from shared.bus.health import write_error
from shared.bus.streams import ANSWER_WITHIN_S, FACTS, FEED, LOG
from shared.tasks import end_if_cancelled

LOOK_EVERY_S = 2.0

AWAY = "the bus does not answer"
"""Said of a connection that is lost, whoever notices."""

NO_LEADER = "has no leader: start the buses that are away, more than half of them must be there and able to write"
SILENT = "does not answer: its bus hangs, or of a cluster more than half are away or cannot write"


async def watch(connection: Client, system: Client, troubles: TroublesPort) -> None:
    """Keep the troubles "bus" and "stream <name>" as they are, until cancelled. system: as admission has it."""
    while True:
        end_if_cancelled()
        if connection.is_connected:
            troubles.end("bus")
            await asyncio.gather(*(_look(connection, system, stream, troubles) for stream in (LOG, FACTS, FEED)))
        if not connection.is_connected:
            troubles.arise("bus", AWAY, passing=True)
            for stream in (LOG, FACTS, FEED):
                troubles.end(f"stream {stream}")
        await asyncio.sleep(LOOK_EVERY_S)


async def _look(connection: Client, system: Client, stream: str, troubles: TroublesPort) -> None:
    what = f"stream {stream}"
    try:
        found = await connection.jetstream(timeout=ANSWER_WITHIN_S).stream_info(stream)
        if found.cluster and not found.cluster.leader:
            troubles.arise(what, f"the bus's stream {stream} {NO_LEADER}", passing=True)
        elif problem := await write_error(system, stream):
            troubles.arise(what, f"the bus cannot write, see to its disk: {problem}")
        else:
            troubles.end(what)
    except nats.errors.TimeoutError:
        troubles.arise(what, f"the bus's stream {stream} {SILENT}", passing=True)
    except APIError as problem:
        troubles.arise(what, f"the bus's stream {stream} is not there: {problem.description}", passing=True)
    except nats.errors.Error as problem:
        troubles.arise(what, f"the bus's stream {stream} does not answer: {problem}", passing=True)
