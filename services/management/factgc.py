"""Facts of what is no more: what deleted peers and routes leave behind, which nobody would ever replace."""

import asyncio

import nats.errors
import structlog
from nats.aio.client import Client

from services.management.core.leases import leases_of
from services.management.core.state import AccountState
from services.management.ports import NewestFold
from shared.bus.streams import FACTS
from shared.events import subjects
from shared.events.subjects import BadSubject, FactKey
from shared.tasks import end_if_cancelled

SWEEP_EVERY_S = 3600.0

log = structlog.get_logger()


async def sweep(connection: Client, held: NewestFold, *, every_s: float = SWEEP_EVERY_S) -> None:
    """Remove them now and then, for ever. Every replica does it; doing it twice does no harm.

    Not at once: the session of a deleted peer ends after the peer, and is said once more.
    """
    while True:
        end_if_cancelled()
        try:
            for account in list(held.intent.accounts):
                await _sweep(connection, held, account)
        except (nats.errors.Error, TimeoutError) as problem:
            log.debug("old facts stay until the next time", problem=repr(problem))
        await asyncio.sleep(every_s)


async def _sweep(connection: Client, held: NewestFold, account: str) -> None:
    jetstream = connection.jetstream()
    found = await jetstream.stream_info(FACTS, subjects_filter=subjects.facts_of_account(account))
    # Whatever a fact was found for was in the log before it; so what the fold lacks after this is gone.
    await held.catch_up()
    state = held.intent.accounts[account]
    leases = leases_of(state)
    for subject in found.state.subjects or ():
        if _is_old(subject, state, leases):
            await jetstream.purge_stream(FACTS, subject=subject)
            log.info("old fact removed", subject=subject)
            leases = leases_of(state)


def _is_old(subject: str, state: AccountState, leases: frozenset[str]) -> bool:
    try:
        key: FactKey = subjects.parse_fact(subject)
    except BadSubject:
        return False
    match key.owner:
        case "peer":
            return key.id not in state.peers
        case "route":
            return key.id not in state.routes
    return key.id not in leases
