"""How far a write of the nftables table goes, rung by rung, and what is shut when nothing helps."""

from collections.abc import Iterable

import pytest

from services.agent.core.firewall.ruleset import change
from services.agent.core.kernel import Ruleset
from services.agent.core.reconcile.desired import desired
from services.agent.loop.table import DIFFERS, write
from shared.events.documents import RouteDoc, RuleDoc
from tests.fakes.kernel import FakeKernel
from tests.fakes.nftables import REFUSED, Fault, FaultyNft
from tests.property.agent.test_table import FORWARDING, UP
from tests.unit.agent import make

ALICE, BOB = "100.64.0.12", "100.64.0.13"


def table(*routes: RouteDoc, rules: Iterable[RuleDoc] = (), without: str = "") -> Ruleset:
    peers = [make.peer("alice", "staff", v4=ALICE), make.peer("bob", "staff", v4=BOB)]
    kept = [peer for peer in peers if peer.peer_id != without]
    found = desired(make.documents(make.me("me"), kept, routes=routes, rules=rules), make.local()).ruleset
    assert found is not None
    return found


LAN, OTHER = make.served("lan", "10.1.0.0/16"), make.served("other", "10.2.0.0/16")


def host(driver: FaultyNft) -> FakeKernel:
    kernel = FakeKernel(sysctls=FORWARDING)
    kernel.links, kernel.ruleset = {"wt0": UP}, driver.table
    return kernel


async def written(driver: FaultyNft, wanted: Ruleset) -> str | None:
    return await write(driver, wanted, await driver.observe())


@pytest.mark.parametrize(
    ("faults", "writes"),
    [
        ((), ["change"]),
        (("refuse",), ["change", "anew"]),
        (("lose",), ["change", "anew"]),
        (("ignore", "refuse"), ["change", "anew", "replace"]),
    ],
)
async def test_what_is_refused_or_reads_back_differently_is_written_more_widely(
    faults: tuple[Fault, ...], writes: list[str]
) -> None:
    driver, wanted = FaultyNft(table(LAN, OTHER), faults), table(OTHER)
    assert await written(driver, wanted) is None
    assert driver.writes == writes
    assert change(wanted, await driver.observe()) is None


async def test_what_is_withdrawn_is_shut_when_nothing_helps_and_the_rest_goes_on() -> None:
    driver = FaultyNft(table(LAN, OTHER), ("refuse", "ignore", "refuse", "refuse", "refuse", "refuse"))
    assert await written(driver, table(OTHER)) == REFUSED
    assert not host(driver).forwards(ALICE, "10.1.0.9")
    assert host(driver).forwards(ALICE, "10.2.0.9")
    writes = len(driver.writes)
    assert await written(driver, table(OTHER)) == REFUSED
    assert driver.writes[writes:] == ["change", "anew", "replace"], "what is shut already is not shut again"
    assert await written(driver, table(OTHER)) is None
    assert host(driver).forwards(ALICE, "10.2.0.9")
    assert change(table(OTHER), await driver.observe()) is None


async def test_a_table_that_says_it_was_written_and_was_not_has_failed() -> None:
    driver = FaultyNft(table(LAN), ("ignore", "ignore", "ignore"))
    assert await written(driver, table()) == DIFFERS
    assert not host(driver).forwards(ALICE, "10.1.0.9")


async def test_a_route_that_no_kernel_takes_keeps_no_other_from_being_withdrawn() -> None:
    driver = FaultyNft(table(LAN, OTHER))
    driver.poison = lambda whole: bool(whole.maps)
    narrow = make.served("new", "10.3.0.0/16", make.permit("r", make.ALL, protocol="tcp"))
    assert await written(driver, table(OTHER, narrow)) == REFUSED
    assert not host(driver).forwards(ALICE, "10.1.0.9")
    assert host(driver).forwards(ALICE, "10.2.0.9")


@pytest.mark.parametrize("wanted", [{"without": "bob"}, {"rules": ()}])
async def test_input_is_shut_to_whom_it_is_withdrawn_from(wanted: dict[str, object]) -> None:
    driver = FaultyNft(table(rules=[make.rule("q")]), ("refuse",) * 3)
    assert host(driver).accepts(BOB)
    assert await written(driver, table(**{"rules": [make.rule("q")], **wanted}))  # type: ignore[arg-type]
    assert not host(driver).accepts(BOB)
    assert host(driver).accepts(ALICE) == ("without" in wanted)


async def test_a_drop_that_cannot_be_written_shuts_what_it_was_to_shut() -> None:
    dropped = make.served(
        "lan", "10.1.0.0/16", make.permit("a", make.ALL), make.permit("d", "staff", action="drop", protocol="tcp")
    )
    constant = make.served("far", "10.9.0.0/16", *(dropped.permits or ()))
    driver = FaultyNft(table(LAN, OTHER, constant), ("refuse",) * 3)
    assert host(driver).forwards(BOB, "10.1.0.9")
    assert await written(driver, table(dropped, OTHER, constant)) == REFUSED
    assert not host(driver).forwards(BOB, "10.1.0.9")
    assert host(driver).forwards(BOB, "10.2.0.9")


async def test_a_table_that_others_changed_and_nobody_can_write_is_shut_as_a_whole() -> None:
    driver = FaultyNft(table(LAN, OTHER))
    driver.meddle("forward_overlay")
    driver.poison = lambda whole: bool(whole.maps)
    assert await written(driver, table(OTHER)) == REFUSED
    assert not host(driver).forwards(ALICE, "10.2.0.9")
    driver.poison = lambda _: False
    assert await written(driver, table(OTHER)) is None
    assert host(driver).forwards(ALICE, "10.2.0.9")
