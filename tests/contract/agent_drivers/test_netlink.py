"""drivers/netlink.py: messages against pyroute2's reading of them, and a socket against the real kernel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from deploy.lab.netns import Namespace
from services.agent.drivers import netlink
from services.agent.drivers.netlink import HEADER, Message, Netlink, Refusal, Request
from services.agent.drivers.rtnl import IFLA_IFNAME, LINK, RTM_DELLINK, RTM_GETLINK, pack_prefix, prefix_text
from tests.contract.agent_drivers.conftest import run_on

AF_INET = 2


def test_a_message_is_what_another_library_reads() -> None:
    body = bytes((AF_INET, 8, 0, 0, 0, 213, 253, 1)) + bytes(4)
    body += netlink.u32(15, 7120) + netlink.attribute(1, bytes((10, 0, 0, 0))) + netlink.u32(4, 3)
    message = rtmsg(HEADER.pack(16 + len(body), 24, netlink.F_REQUEST, 1, 0) + body)
    message.decode()
    assert (message["family"], message["dst_len"], message["proto"], message["scope"]) == (AF_INET, 8, 213, 253)
    assert message.get_attr("RTA_TABLE") == 7120
    assert message.get_attr("RTA_DST") == "10.0.0.0"
    assert message.get_attr("RTA_OIF") == 3


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), unique_by=lambda pair: pair[0]))
def test_attributes_read_back_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.attribute(kind, value) for kind, value in written)
    assert len(data) % 4 == 0
    assert {kind: bytes(value) for kind, value in netlink.attributes(memoryview(data)).items()} == dict(written)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_readers_fail_or_hang(data: bytes) -> None:
    netlink.attributes(memoryview(data))
    list(netlink.messages(data))


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6), st.data())
def test_prefixes_read_back_in_canonical_text(address: object, data: st.DataObject) -> None:
    text = str(address)
    length = data.draw(st.integers(0, 128 if ":" in text else 32))
    family, packed, _ = pack_prefix(f"{text}/{length}")
    assert prefix_text(family, packed, length) == f"{text}/{length}"


@pytest.mark.root
def test_refusals_stand_at_the_place_of_their_request(host: Namespace) -> None:
    """The third of five is an interface that is there and cannot be removed; the others do not exist."""

    def remove(name: str) -> Request:
        return Request(RTM_DELLINK, 0, LINK.pack(0, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, name))

    async def scenario(rtnl: Netlink) -> dict[int, Refusal]:
        return rtnl.apply([remove(name) for name in ("a", "b", "lo", "c", "d")])

    refused = run_on(host, scenario)
    assert {index: problem.text for index, problem in refused.items()} == {
        0: "No such device",
        1: "No such device",
        2: "Operation not supported",
        3: "No such device",
        4: "No such device",
    }


@pytest.mark.root
def test_a_socket_goes_on_after_refusals(host: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        unknown = Request(RTM_GETLINK, 0, LINK.pack(0, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, "nowhere"))
        loopback = Request(RTM_GETLINK, 0, LINK.pack(0, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, "lo"))
        for _ in range(3):
            refused = rtnl.get(unknown)
            assert isinstance(refused, Refusal)
            assert refused.text == "No such device"
            assert isinstance(rtnl.get(loopback), Message)
            listed = rtnl.dump(Request(RTM_GETLINK, 0, LINK.pack(0, 0, 0, 0, 0)))
            assert not isinstance(listed, Refusal)
            assert [LINK.unpack_from(message.body)[2] for message in listed] == [1]

    run_on(host, scenario)
