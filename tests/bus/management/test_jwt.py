"""The auth callout's messages."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import Box

from services.management.admission import jwt
from services.management.admission.jwt import BadToken, read_request, seal, unseal
from shared.bus.keys import curve_key, new_seed, public_curve_key, public_key

SERVER_SIGNS = new_seed("account")  # a server's key has another prefix; nothing here looks at it
SERVER, OWN = new_seed("curve"), new_seed("curve")


def request(*, issuer: str = SERVER_SIGNS, server_id: str = "", **changes: Any) -> bytes:
    """What a server sends about a connection, sealed for us."""
    claims = {
        "iss": public_key(issuer),
        "nats": {
            "server_id": {"id": server_id or public_key(SERVER_SIGNS), "xkey": public_key(SERVER), "name": "whimbrel"},
            "user_nkey": "UXYZ",
            "client_info": {"host": "192.0.2.1", "nonce": "nonce", "kind": "Client"},
            "connect_opts": {"user": "enrol", "pass": "the key", "lang": "python3"},
            **changes,
        },
    }
    return seal(jwt._signed(claims, SERVER_SIGNS).encode(), public_key(OWN), curve_key(SERVER))


def test_a_request_says_who_wants_in_and_what_it_presented() -> None:
    read = read_request(request(), public_key(SERVER), curve_key(OWN))
    assert (read.user_nkey, read.client.nonce, read.client.host) == ("UXYZ", "nonce", "192.0.2.1")
    assert (read.presented.user, read.presented.password, read.presented.nkey) == ("enrol", "the key", "")


@pytest.mark.parametrize(
    ("sealed", "sender"),
    [
        (b"", public_key(SERVER)),
        (b"eyJ0eXAiOiJKV1QifQ.e30.c2ln", public_key(SERVER)),
        (request(), public_key(OWN)),
        (request(), public_key(SERVER_SIGNS)),
        (request(), ""),
        (request(issuer=new_seed("account")), public_key(SERVER)),
        (request(server_id="somebody else"), public_key(SERVER)),
        (request(connect_opts={"pass": 5}), public_key(SERVER)),
        (seal(b"no token", public_key(OWN), curve_key(SERVER)), public_key(SERVER)),
        (seal(b"e30.e30.e30", public_key(OWN), curve_key(SERVER)), public_key(SERVER)),
        (seal("ü.ü.ü".encode(), public_key(OWN), curve_key(SERVER)), public_key(SERVER)),
    ],
    ids=[
        "nothing",
        "not sealed",
        "sealed by another",
        "no curve key",
        "no sender",
        "signed by another than it says",
        "another server's",
        "wrong types",
        "no token",
        "an empty token",
        "not ASCII",
    ],
)
def test_what_no_server_of_ours_would_send_is_a_bad_token(sealed: bytes, sender: str) -> None:
    with pytest.raises(BadToken):
        read_request(sealed, sender, curve_key(OWN))


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_make_a_bad_token(data: bytes) -> None:
    box = Box(curve_key(SERVER), public_curve_key(public_key(OWN)))
    for sealed in (data, b"xkv1" + data, b"xkv1" + box.encrypt(data)):
        with pytest.raises(BadToken):
            read_request(sealed, public_key(SERVER), curve_key(OWN))


@given(st.binary(max_size=200))
def test_what_is_sealed_only_its_recipient_reads(data: bytes) -> None:
    sealed = seal(data, public_key(OWN), curve_key(SERVER))
    assert unseal(sealed, public_key(SERVER), curve_key(OWN)) == data
    with pytest.raises(BadToken):
        read_request(sealed, public_key(SERVER), curve_key(new_seed("curve")))


def test_a_grant_is_signed_and_names_all_it_grants() -> None:
    read = read_request(request(), public_key(SERVER), curve_key(OWN))
    issuer = new_seed("account")
    grant = jwt.Grant(
        name="acc.alice.digest",
        account="HOSTS",
        publish=("a",),
        subscribe=("b", "c"),
        expires_at=12.5,
    )
    answer = msgspec.json.decode(jwt._verified(jwt.admit(read, grant, issuer, 10.0)))
    user = msgspec.json.decode(jwt._verified(answer["nats"].pop("jwt").encode()))
    assert answer == {
        "iss": public_key(issuer),
        "sub": "UXYZ",
        "aud": public_key(SERVER_SIGNS),
        "iat": 10,
        "nats": {"type": "authorization_response", "version": 2},
    }
    assert user == {
        "iss": public_key(issuer),
        "sub": "UXYZ",
        "aud": "HOSTS",
        "name": "acc.alice.digest",
        "iat": 10,
        "exp": 12,
        "nats": {
            "type": "user",
            "version": 2,
            "pub": {"allow": ["a"]},
            "sub": {"allow": ["b", "c"]},
            "subs": -1,
            "payload": -1,
            "data": -1,
        },
    }
