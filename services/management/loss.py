"""Going on without what the log has lost, because somebody said so."""

import secrets

from nats.aio.client import Client

from services.management.core.commands.decision import Context, Decision, changed
from services.management.core.model.commit import Activity
from services.management.core.state import AccountState
from shared.bus.streams import GAP, LOG
from shared.events import subjects


async def fill_gap(connection: Client, last: int, reached: int) -> None:
    """Put a message in the place of each that was lost, and one more, so that no sequence number is given twice.

    last: where the log ends. reached: where it ended before. Hosts may hold what was lost, and of two documents they
    keep that of the greater sequence. A replica that has folded what was lost learns that from the first it hears of.
    """
    jetstream = connection.jetstream()
    for _ in range((await jetstream.stream_info(LOG)).state.last_seq, reached + 1):
        headers = {GAP: str(last), "Nats-Msg-Id": secrets.token_hex(16)}
        await jetstream.publish(subjects.log(subjects.NO_ACCOUNT), b"", headers=headers)


def accept_loss(state: AccountState, context: Context) -> Decision[None]:
    """Write down in the account that its last changes may be lost. Its documents are newer than the lost ones then."""
    return changed(context, state.account.id, None, [Activity(code="account.loss.accept", target_id=state.account.id)])
