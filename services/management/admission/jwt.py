"""What nats-server asks before it lets a connection in, and what it wants to hear (auth callout).

Both are JSON web tokens signed with nkeys (algorithm "ed25519-nkey"), sealed with curve keys ("xkv1", 24 nonce bytes,
NaCl box) since a request may hold a setup key. Source: nats-server's auth callout, tried with 2.15.
"""

import base64
import binascii
from typing import Any

import msgspec
import nkeys
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.public import Box, PrivateKey
from nacl.signing import VerifyKey

from shared.bus.keys import public_bytes, public_curve_key, public_key

_MAGIC = b"xkv1"


class BadToken(Exception):
    """Drop the request: it is not what a server of ours would send. `problem` says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class ServerId(msgspec.Struct, frozen=True):
    id: str
    xkey: str = ""


class ClientInfo(msgspec.Struct, frozen=True):
    """nonce: what the connection had to sign."""

    host: str = ""
    nonce: str = ""


class ConnectOptions(msgspec.Struct, frozen=True):
    """What the connection presented. The password is a setup key."""

    nkey: str = ""
    sig: str = ""
    user: str = ""
    password: str = msgspec.field(name="pass", default="")


class _Request(msgspec.Struct, frozen=True):
    server_id: ServerId
    user_nkey: str
    client_info: ClientInfo
    connect_opts: ConnectOptions


class Request(msgspec.Struct, frozen=True):
    """One connection that wants in. user_nkey: the key the server made for it, which the answer must name."""

    server: ServerId
    user_nkey: str
    client: ClientInfo
    presented: ConnectOptions


class _RequestClaims(msgspec.Struct, frozen=True):
    iss: str
    nats: _Request


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Rights of one connection. expires_at: unix seconds, the server ends the connection then; 0.0 = never."""

    name: str
    account: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    expires_at: float = 0.0


def read_request(sealed: bytes, server_xkey: str, own: PrivateKey) -> Request:
    """The request in a message of the server whose public curve key came in its header; raises BadToken."""
    try:
        token = unseal(sealed, server_xkey, own)
        claims = msgspec.json.decode(_verified(token), type=_RequestClaims)
    except (nkeys.NkeysError, CryptoError, msgspec.DecodeError, binascii.Error, ValueError) as problem:
        raise BadToken(str(problem) or type(problem).__name__) from None
    asked = claims.nats
    if claims.iss != asked.server_id.id:
        raise BadToken("another server's request")
    return Request(asked.server_id, asked.user_nkey, asked.client_info, asked.connect_opts)


def admit(request: Request, grant: Grant, issuer: str, now: float) -> bytes:
    """The answer that lets the connection in. issuer: the account seed named in the server's configuration."""
    user: dict[str, Any] = {
        "iss": public_key(issuer),
        "sub": request.user_nkey,
        "aud": grant.account,
        "name": grant.name,
        "iat": int(now),
        "nats": {
            "type": "user",
            "version": 2,
            "pub": {"allow": grant.publish},
            "sub": {"allow": grant.subscribe},
            "subs": -1,
            "payload": -1,
            "data": -1,
        },
    }
    if grant.expires_at:
        user["exp"] = int(grant.expires_at)
    return _answer(request, issuer, now, jwt=_signed(user, issuer))


def refuse(request: Request, reason: str, issuer: str, now: float) -> bytes:
    """The answer that keeps the connection out. reason: for the server's log; the connection is not told."""
    return _answer(request, issuer, now, error=reason)


def _answer(request: Request, issuer: str, now: float, **said: str) -> bytes:
    claims = {
        "iss": public_key(issuer),
        "sub": request.user_nkey,
        "aud": request.server.id,
        "iat": int(now),
        "nats": {"type": "authorization_response", "version": 2, **said},
    }
    return _signed(claims, issuer).encode()


def seal(data: bytes, recipient: str, own: PrivateKey) -> bytes:
    """`data` for the owner of a public curve key alone."""
    return _MAGIC + Box(own, public_curve_key(recipient)).encrypt(data)


def unseal(data: bytes, sender: str, own: PrivateKey) -> bytes:
    """What `seal` was given; raises CryptoError, NkeysError or BadToken."""
    if not data.startswith(_MAGIC):
        raise BadToken("not sealed: xkey is missing in the server's configuration")
    return Box(own, public_curve_key(sender)).decrypt(data[len(_MAGIC) :])


def signed_by(public: str, signature: str, text: str) -> bool:
    """Whether the owner of a public user nkey signed `text`. signature: base64, the URL's or the plain alphabet."""
    if not public.startswith("U"):
        return False
    try:
        VerifyKey(public_bytes(public)).verify(text.encode(), _unbase64(signature))
    except (BadSignatureError, nkeys.NkeysError, binascii.Error, ValueError):
        return False
    return True


def _signed(claims: dict[str, Any], seed: str) -> str:
    text = f"{_HEADER}.{_base64(msgspec.json.encode(claims))}"
    return f"{text}.{_base64(nkeys.from_seed(seed.encode()).sign(text.encode()))}"


def _verified(token: bytes) -> bytes:
    """The claims of a token that its own issuer signed."""
    text, _, signature = token.rpartition(b".")
    claims = _unbase64(text.partition(b".")[2].decode())
    issuer = msgspec.json.decode(claims, type=_Issued).iss
    try:
        VerifyKey(public_bytes(issuer)).verify(text, _unbase64(signature.decode()))
    except BadSignatureError:
        raise BadToken("wrong signature") from None
    return claims


class _Issued(msgspec.Struct, frozen=True):
    iss: str


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    plain = text.rstrip("=").replace("+", "-").replace("/", "_")
    return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))


_HEADER = _base64(b'{"typ":"JWT","alg":"ed25519-nkey"}')
