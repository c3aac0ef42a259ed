"""Becoming a peer over a real bus."""

import asyncio

import pytest

from services.agent.bus.dial import Dialer
from services.agent.bus.enrolment import enrol
from services.agent.errors import EnrolmentRefused
from shared.events.signals import Enrolled, EnrolReason, EnrolRequest, PeerMeta
from tests.bus.agent.plane import ACCOUNT, Plane
from tests.support.bus import eventually

KEY = "0CD76A3C-7A8B-4F0E-9C3B-1A2B3C4D5E6F"
REQUEST = EnrolRequest(wireguard_key="w", bus_key="UKEY", meta=PeerMeta(hostname="h"))


async def test_a_valid_key_gives_the_account_and_the_peer(plane: Plane) -> None:
    plane.accept(KEY, "me")
    assert await enrol(Dialer(plane.url), KEY, REQUEST) == Enrolled(account=ACCOUNT, peer_id="me")
    assert plane.enrolments == [REQUEST]


async def test_the_key_is_taken_however_it_was_typed(plane: Plane) -> None:
    plane.accept(KEY, "me")
    assert (await enrol(Dialer(plane.url), f" {KEY.lower()}\n", REQUEST)).peer_id == "me"


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("unknown", "enrolment refused (unknown): no such setup key: compare it with the one in the account"),
        ("revoked", "enrolment refused (revoked): the setup key is revoked: ask for another"),
        ("expired", "enrolment refused (expired): the setup key is expired: ask for another"),
        ("used-up", "enrolment refused (used-up): the setup key is used up: ask for another"),
        ("key-in-use", "enrolment refused (key-in-use): no"),
    ],
)
async def test_a_refusal_says_which_and_never_the_key(plane: Plane, reason: EnrolReason, line: str) -> None:
    plane.refuse(KEY, reason)
    with pytest.raises(EnrolmentRefused) as refused:
        await enrol(Dialer(plane.url), KEY, REQUEST)
    assert refused.value.message == line
    assert refused.value.exit_code == 3


async def test_an_unreachable_bus_is_waited_for(plane: Plane) -> None:
    plane.accept(KEY, "me")
    await plane.kill()
    enrolling = asyncio.create_task(enrol(Dialer(plane.url), KEY, REQUEST))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(enrolling), 1.0)
    await plane.revive()
    assert (await asyncio.wait_for(enrolling, 20.0)).peer_id == "me"


async def test_a_management_that_has_no_answer_now_is_asked_again(plane: Plane) -> None:
    plane.refuse(KEY, "unavailable")
    enrolling = asyncio.create_task(enrol(Dialer(plane.url), KEY, REQUEST))
    await eventually(lambda: len(plane.enrolments) == 2)
    plane.accept(KEY, "me")
    assert (await asyncio.wait_for(enrolling, 20.0)).peer_id == "me"
