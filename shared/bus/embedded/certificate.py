"""A server's certificate, looked at before the server gets it."""

import ssl
from pathlib import Path
from typing import Any

import msgspec

from shared.errors import BadSetting
from shared.settings import option


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files: the certificate with what comes between it and its authority, and its key."""

    cert: Path
    key: Path


def names(of: Certificate) -> tuple[str, ...]:
    """The names and addresses it is for, at least one; a wildcard as a name that it covers.

    Raises BadSetting when clients would not take it, whatever they trust: expired, for no name, not for a server; and
    when key and certificate do not fit together.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path, name in ((of.cert, "bus_cert"), (of.key, "bus_key")):
        try:
            path.read_bytes()
        except OSError as problem:
            raise BadSetting(option(name), f"{path}: {problem.strerror}") from None
    try:
        server.load_cert_chain(of.cert, of.key, password="")  # else a key with a passphrase would ask for it
    except ssl.SSLError as problem:
        raise BadSetting(
            option("bus_key"),
            f"{of.key} is not the key of {of.cert}, both in PEM form and without a passphrase ({problem.reason})",
        ) from None
    try:
        shown = _as_a_client_sees_it(server, of.cert)
    except ssl.SSLCertVerificationError as problem:
        raise BadSetting(option("bus_cert"), f"{of.cert}: {problem.verify_message}: get another") from None
    found = tuple(value for kind, value in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    if not found:
        raise BadSetting(option("bus_cert"), f"{of.cert} names no host as subjectAltName: get one that does")
    return tuple(name.replace("*", "bus", 1) for name in found)


def _as_a_client_sees_it(server: ssl.SSLContext, cert: Path) -> dict[str, Any]:
    """What a handshake in memory shows to a client that knows this very certificate."""
    client = ssl.create_default_context(cafile=cert)
    client.check_hostname = False  # the name is what is asked for
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for end in (*ends, ends[0]):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown: dict[str, Any] = ends[0].getpeercert() or {}
    return shown
