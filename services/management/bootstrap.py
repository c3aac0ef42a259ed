"""The first start: one account, and a token for its owner."""

import fcntl
import hashlib
import ipaddress
import os
import re
import secrets
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import structlog
from nats.aio.client import Client
from nats.js.errors import APIError

from services.management.core.addresses import OVERLAY_V4, OVERLAY_V4_LENGTH, OVERLAY_V6, OVERLAY_V6_LENGTH
from services.management.core.commands.accounts import NewAccount, create_account
from services.management.core.commands.decision import Context
from services.management.core.model.commit import Actor, Commit
from services.management.ports import NewestFold
from shared import files
from shared.bus.codec import encode
from shared.bus.patience import Patience, Trouble
from shared.bus.streams import WRONG_LAST_SEQUENCE
from shared.disk import NO_ROOM
from shared.errors import NoRoom
from shared.events import subjects

TOKEN_PREFIX = "nbp_"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 30
_CHECKSUM_LENGTH = 6
_TOKEN = re.compile(rf"{TOKEN_PREFIX}[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}\Z")

OWNER_NAME = "admin"
TOKEN_NAME = "first token"
LATER_TOKEN_NAME = "token made beside the control plane"
ANSWER_WITHIN_S = 5.0
RETRY_S = 0.5

log = structlog.get_logger()


def new_token() -> str:
    """A personal access token: "nbp_", 30 random characters and their CRC-32 in 6 (reference control-plane §6)."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    return f"{TOKEN_PREFIX}{secret}{_checksum(secret)}"


def _checksum(secret: str) -> str:
    number, digits = zlib.crc32(secret.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits


async def ensure_account(
    connection: Client, held: NewestFold, token_file: Path, dns_domain: str, new_id: Callable[[], str]
) -> None:
    """Make the first account unless the log has one; its owner's token is then in `token_file`, mode 0600.

    Of several replicas that try at once one succeeds; the others remove the token they had written.
    held: has caught up with the log. Raises NoRoom when the token cannot be written.
    """
    if held.intent.accounts:
        return
    try:
        token = _token_in(token_file)
    except OSError as problem:
        if problem.errno in NO_ROOM:
            raise NoRoom(token_file) from None
        raise
    token_hash = hashlib.sha256(token.encode()).hexdigest()
    commit = _first_commit(token_hash, dns_domain, new_id)
    await _publish_next(connection, commit, held.sequence)
    await held.catch_up()
    if held.intent.access_token_by_hash(token_hash):
        log.info("account created", account=commit.account, token_file=str(token_file))
    else:
        token_file.unlink(missing_ok=True)


def _token_in(path: Path) -> str:
    """The token in the file, a new one when it holds none: an interrupted start, or a replica that shares the file
    and starts at the same time, may have written one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists() and _TOKEN.match(token := path.read_text().strip()):
            return token
        token = new_token()
        files.write(path, f"{token}\n".encode())
        return token
    finally:
        os.close(folder)


def _first_commit(token_hash: str, dns_domain: str, new_id: Callable[[], str]) -> Commit:
    request = NewAccount(
        network_v4=_random_prefix(OVERLAY_V4, OVERLAY_V4_LENGTH),
        network_v6=_random_prefix(OVERLAY_V6, OVERLAY_V6_LENGTH),
        dns_domain=dns_domain,
        owner_name=OWNER_NAME,
        token_name=TOKEN_NAME,
        token_hash=token_hash,
    )
    decision = create_account(request, Context(time.time(), Actor(id="sys", name="System"), new_id))
    assert decision.commit is not None
    return decision.commit


def _random_prefix(whole: ipaddress.IPv4Network | ipaddress.IPv6Network, length: int) -> str:
    step = 1 << (whole.max_prefixlen - length)
    first = int(whole.network_address) + secrets.randbelow(1 << (length - whole.prefixlen)) * step
    return str(ipaddress.ip_network((type(whole.network_address)(first), length)))


async def _publish_next(connection: Client, commit: Commit, last: int) -> None:
    """Append it if the log's last sequence is still `last`. Repeats it until the bus says yes or no."""
    headers = {"Nats-Msg-Id": secrets.token_hex(16), "Nats-Expected-Last-Sequence": str(last)}

    async def attempt() -> None:
        try:
            await connection.jetstream().publish(
                subjects.log(commit.account), encode(commit), timeout=ANSWER_WITHIN_S, headers=headers
            )
        except APIError as problem:
            if problem.err_code not in WRONG_LAST_SEQUENCE:
                raise

    await Patience(Trouble("the first account waits for the bus"), every_s=RETRY_S).done(attempt)
