"""Becoming a peer: a host with a setup key asks management once, with keys it will keep."""

from collections.abc import Callable
from functools import partial

from services.agent.errors import AdmissionRefused, EnrolmentRefused, SetupKeyMissing
from services.agent.ports import Dial, Login
from services.agent.settings import Settings
from shared.bus.codec import decode, encode
from shared.bus.patience import OF_THE_BUS, Patience, Trouble, in_a_line
from shared.errors import BusUnavailable, Undecodable
from shared.events import subjects
from shared.events.logins import ENROL_USER
from shared.events.signals import Enrolled, EnrolRefused, EnrolRequest

ANSWER_WITHIN_S = 10.0

REMEDIES = {
    "unknown": "no such setup key: compare it with the one in the account",
    "revoked": "the setup key is revoked: ask for another",
    "expired": "the setup key is expired: ask for another",
    "used-up": "the setup key is used up: ask for another",
}


def read_setup_key(settings: Settings, *, wanted: bool) -> str:
    """The key, "" when none is wanted: whoever is enrolled may have removed its file. A pipe is emptied and closed.

    Raises SetupKeyMissing.
    """
    file, key = settings.setup_key_file, settings.setup_key.strip()
    try:
        if file is not None and file.parts[:3] == ("/", "dev", "fd"):
            with open(int(file.name), closefd=True) as pipe:
                key = pipe.read().strip()
        elif file is not None and wanted:
            key = file.read_text().strip()
    except (OSError, ValueError) as problem:
        said = getattr(problem, "strerror", None) or "not readable as text"
        raise SetupKeyMissing(f"setup key file {file}: {said}") from None
    if wanted and not key:
        raise SetupKeyMissing("this host is not enrolled yet: give --setup-key or --setup-key-file")
    return key if wanted else ""


def _nobody(_: str) -> None: ...


async def enrol(dial: Dial, setup_key: str, request: EnrolRequest, tell: Callable[[str], None] = _nobody) -> Enrolled:
    """The account and peer id this host has from now on.

    Tries until management answers, and says so once a minute; `tell` hears each time what is in the way. Raises
    EnrolmentRefused when the answer is no.
    """
    passing = (BusUnavailable, AdmissionRefused, Undecodable, *OF_THE_BUS)
    patience = Patience(Trouble("cannot enrol yet"), passing, heard=lambda problem: tell(in_a_line(problem)))
    return await patience.done(partial(_ask, dial, setup_key, request))


async def _ask(dial: Dial, setup_key: str, request: EnrolRequest) -> Enrolled:
    """One try. Raises EnrolmentRefused for a refusal that stands, and TimeoutError for one that may pass."""
    key_hash = subjects.setup_key_hash(setup_key)
    subject = subjects.enrol(key_hash)
    connection = await dial(Login(name=ENROL_USER, inbox=key_hash, user=ENROL_USER, password=setup_key))
    try:
        answer = await connection.request(subject, encode(request), timeout=ANSWER_WITHIN_S)
    finally:
        await connection.close()
    match decode(subject, answer.data, Enrolled | EnrolRefused):  # type: ignore[arg-type]
        case Enrolled() as enrolled:
            return enrolled
        case EnrolRefused(reason="unavailable", message=message):
            raise TimeoutError(message)
        case EnrolRefused(reason=reason, message=message):
            raise EnrolmentRefused(reason, f"enrolment refused ({reason}): {REMEDIES.get(reason, message)}")
