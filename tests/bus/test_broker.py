"""Handlers that hear subjects through FastStream."""

from nats.aio.msg import Msg

from shared.bus.broker import over
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.metrics import REGISTRY
from tests.support.bus import Bus, eventually

PATTERN = subjects.SIGNAL_FROM_ALL
SUBJECT = subjects.signal_from("account", "a", "b")


def count(metric: str) -> float:
    return REGISTRY.get_sample_value(f"whimbrel_{metric}_total", {"pattern": PATTERN}) or 0.0


async def test_what_a_handler_cannot_read_is_noted_and_the_next_message_is_handled(bus: Bus) -> None:
    service, peer = await bus.service("signal"), await bus.peer("account", "a")
    taken: list[bytes] = []

    async def take(message: Msg) -> None:
        if message.data == b"garbage":
            raise Undecodable(message.subject, "garbage")
        taken.append(message.data)

    before = count("undecodable_messages"), count("handled_messages")
    leave = await (await over(service, Undecodables())).hear(PATTERN, take, queue="signal")
    for data in (b"one", b"garbage", b"two"):
        await peer.publish(SUBJECT, data)
    await eventually(lambda: taken == [b"one", b"two"])
    await eventually(lambda: count("handled_messages") == before[1] + 3)
    assert count("undecodable_messages") == before[0] + 1
    assert count("handling_seconds") > 0.0
    await leave()
    await peer.publish(SUBJECT, b"late")
    await peer.flush()
    await service.flush()
    assert taken == [b"one", b"two"]


async def test_what_waits_when_a_handler_leaves_is_handled(bus: Bus) -> None:
    service, peer = await bus.service("signal"), await bus.peer("account", "a")
    taken: list[bytes] = []

    async def take(message: Msg) -> None:
        await service.flush()
        taken.append(message.data)

    leave = await (await over(service, Undecodables())).hear(PATTERN, take)
    sent = [str(number).encode() for number in range(50)]
    for data in sent:
        await peer.publish(SUBJECT, data)
    await peer.flush()
    await eventually(lambda: taken)
    await leave()
    assert taken == sent
