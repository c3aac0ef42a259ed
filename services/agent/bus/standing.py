"""Why the bus does not admit this host: in management's own words, or because nobody answers for it."""

import secrets

import nats.errors

from services.agent.errors import AdmissionRefused
from services.agent.ports import Dial, Login
from shared.bus.codec import decode, encode
from shared.errors import BusUnavailable, Undecodable
from shared.events import subjects
from shared.events.logins import ENROL_USER
from shared.events.signals import EnrolRefused, EnrolRequest, PeerMeta, PeerStanding

ANSWER_WITHIN_S = 5.0

NOBODY = "management does not answer, and the bus does not admit anybody without it: going on trying"
UNKNOWN = (
    "the bus does not admit this peer: it may be deleted or blocked in its account; to enrol anew, stop the agent, "
    "remove identity.json from its state directory and start it with a setup key"
)
REFUSALS: dict[PeerStanding, str] = {
    "": UNKNOWN,  # management of a version that only says that it is there
    "unknown": UNKNOWN,
    "expired": "the bus does not admit this peer: its login has expired; ask the administrator to let it in again",
    "flooding": "the bus does not admit this peer for some minutes: it sent more than any host has reason to",
}
"""What management says of a peer that it keeps out, and one line about it."""


async def ask(dial: Dial, bus_key: str) -> PeerStanding | None:
    """How the peer with this key stands with management; None when management does not answer.

    The bus refuses in the same words whether management said no or nothing. So this asks as anybody may who wants to
    enrol, with a setup key that nobody has.
    """
    stranger = secrets.token_hex(16)
    key_hash = subjects.setup_key_hash(stranger)
    request = EnrolRequest(wireguard_key="", bus_key=bus_key, meta=PeerMeta())
    try:
        connection = await dial(Login(name=ENROL_USER, inbox=key_hash, user=ENROL_USER, password=stranger))
        try:
            answer = await connection.request(subjects.enrol(key_hash), encode(request), timeout=ANSWER_WITHIN_S)
        finally:
            await connection.close()
        refused = decode(subjects.enrol(key_hash), answer.data, EnrolRefused)
    except (BusUnavailable, AdmissionRefused, Undecodable, nats.errors.Error, TimeoutError):
        return None
    return refused.peer
