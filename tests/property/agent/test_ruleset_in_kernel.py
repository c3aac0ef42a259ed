"""Whatever table the documents amount to, the real nftables takes it, and shows it as it was meant."""

import asyncio
import subprocess
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.lab.netns import Namespace
from services.agent.core.documents import Documents
from services.agent.core.firewall.ruleset import Elements, Replace, change, elements, shape
from services.agent.core.kernel import NFT_TABLE, ObservedRuleset, Ruleset
from services.agent.core.reconcile.desired import Local, desired
from services.agent.drivers.nft import Nft
from services.agent.drivers.nft_text import replace_script
from shared.events.documents import RouteDoc
from tests.property.agent import worlds
from tests.support.netns import host as host
from tests.support.netns import make_host as make_host
from tests.unit.agent import make

pytestmark = pytest.mark.root

in_one_namespace = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table(world: tuple[Documents, Local]) -> Ruleset:
    found = desired(*world).ruleset
    assert found is not None
    return found


def carry_out(history: list[Ruleset]) -> list[ObservedRuleset]:
    """Make each table of the last one as the agent does, and read it back each time. Runs on the host."""

    async def run() -> list[ObservedRuleset]:
        nft, seen = Nft(), []
        for wanted in history:
            match change(wanted, await nft.observe()):
                case Replace(ruleset=ruleset):
                    assert await nft.replace(ruleset) is None
                case Elements(add=add, remove=remove, shape=fingerprint, anew=anew):
                    assert await nft.change(add, remove, fingerprint, anew) is None
            seen.append(await nft.observe())
        return seen

    return asyncio.run(run())


@in_one_namespace
@given(worlds=st.lists(worlds.hosts(), min_size=1, max_size=3))
def test_every_table_is_taken_and_read_back_as_it_was_meant(
    host: Namespace, worlds: list[tuple[Documents, Local]]
) -> None:
    tables = [table(world) for world in worlds]
    for wanted, found in zip(tables, host.call(carry_out, tables), strict=True):
        assert found == ObservedRuleset(shape=shape(wanted), elements=elements(wanted))
        assert change(wanted, found) is None


@in_one_namespace
@given(world=worlds.hosts(), without=st.sets(st.sampled_from(("p1", "p2", "p3", "p4"))))
def test_peers_that_come_and_go_are_changes_of_elements_the_kernel_takes(
    host: Namespace, world: tuple[Documents, Local], without: set[str]
) -> None:
    documents, local = world
    fewer = Documents(
        **{
            **{name: getattr(documents, name) for name in Documents.__struct_fields__},
            "peers": {name: peer for name, peer in documents.peers.items() if name not in without},
        }
    )
    tables = [table((documents, local)), table((fewer, local)), table((documents, local))]
    assert len({shape(one) for one in tables}) == 1
    for wanted, found in zip(tables, host.call(carry_out, tables), strict=True):
        assert found.elements == elements(wanted)


prefixes = st.sets(
    st.tuples(st.integers(24, 32), st.integers(0, 255), st.booleans()).map(
        lambda drawn: (str(ip_network((f"10.0.0.{drawn[1]}", drawn[0]), strict=False)), drawn[2])
    ),
    max_size=6,
)


@in_one_namespace
@given(history=st.lists(prefixes, min_size=2, max_size=4))
def test_routes_that_come_and_go_cut_and_join_intervals_in_one_transaction_each_a5_g10(
    host: Namespace, history: list[set[tuple[str, bool]]]
) -> None:
    tables = [
        table((make.documents(routes=[CONSTANT, *map(serve, sorted(routes))]), make.local())) for routes in history
    ]
    assert len({shape(one) for one in tables}) == 1
    for wanted, found in zip(tables, host.call(carry_out, tables), strict=True):
        assert found.elements == elements(wanted)


CONSTANT = make.served("constant", "10.0.1.0/24")


def serve(drawn: tuple[str, bool]) -> RouteDoc:
    prefix, masquerade = drawn
    return make.served(f"{prefix} {masquerade}", prefix, masquerade=masquerade)


@settings(in_one_namespace, max_examples=10)
@given(world=worlds.hosts())
def test_the_command_line_tool_finds_no_fault(host: Namespace, world: tuple[Documents, Local]) -> None:
    script = replace_script(NFT_TABLE, table(world), "0" * 16)
    checked = subprocess.run(
        host.command(["nft", "-c", "-f", "-"]), input=script, capture_output=True, text=True, timeout=20, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
