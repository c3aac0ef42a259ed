"""Asking the agent of this host, when it is in no state to answer."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from services.agent.core.paths.whereabouts import Told
from services.agent.core.reconcile.desired import desired
from services.agent.core.show.status import About, Forwarder, status
from services.cli import agent
from tests.unit.agent import make
from tests.unit.cli.conftest import Run

ASKING = (("status",), ("networks", "ls"), ("networks", "history"), ("networks", "select", "office"), ("down",))


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What an agent listens on at tmp_path/agent.sock, with room for one that waits."""
    monkeypatch.setattr(agent, "ANSWER_WITHIN_S", 0.2)
    monkeypatch.setattr(agent, "STOP_WITHIN_S", 0.2)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listening:
        listening.bind(str(tmp_path / "agent.sock"))
        listening.listen(0)
        yield listening


@pytest.mark.parametrize("asking", ASKING, ids=" ".join)
@pytest.mark.timeout(20)
def test_an_agent_that_hangs_is_one_line_in_bounded_time(
    asking: tuple[str, ...], listener: socket.socket, whimbrel: Run, tmp_path: Path
) -> None:
    asked = whimbrel(*asking, "--socket", str(tmp_path / "agent.sock"))
    assert asked.code == 1
    assert asked.err == (
        f"error: the agent at {tmp_path}/agent.sock does not answer: look at its log; "
        "if it is stopped or stuck, end it and start it anew\n"
    )


@pytest.mark.timeout(20)
def test_an_agent_that_has_no_room_for_another_question_is_one_line_too(
    listener: socket.socket, whimbrel: Run, tmp_path: Path
) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as waiting:
        waiting.connect(str(tmp_path / "agent.sock"))
        asked = whimbrel("status", "--socket", str(tmp_path / "agent.sock"))
    assert (asked.code, asked.out, asked.err.count("\n")) == (1, "", 1)
    assert "does not answer" in asked.err


def test_an_agent_that_ends_before_it_answers_says_so(listener: socket.socket, whimbrel: Run, tmp_path: Path) -> None:
    def end() -> None:
        listener.accept()[0].close()

    ending = threading.Thread(target=end)
    ending.start()
    asked = whimbrel("status", "--socket", str(tmp_path / "agent.sock"))
    ending.join()
    assert (asked.code, asked.out, asked.err.count("\n")) == (1, "", 1)


def test_down_where_no_agent_runs_has_nothing_to_do_and_says_so(whimbrel: Run, tmp_path: Path) -> None:
    asked = whimbrel("down", "--socket", str(tmp_path / "none.sock"))
    assert asked == (0, f"no agent runs at {tmp_path}/none.sock: nothing to stop\n", "")
    assert whimbrel("status", "--socket", str(tmp_path / "none.sock")).code == 1


def test_down_of_an_agent_that_was_killed_is_not_done(whimbrel: Run, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listening:
        listening.bind(str(tmp_path / "agent.sock"))
    asked = whimbrel("down", "--socket", str(tmp_path / "agent.sock"))
    assert (asked.code, asked.out) == (1, "")
    assert "was killed, and what it made is still there" in asked.err


WELL = {"management": {"connected": True, "url": "nats://b", "error": ""}, "pending": {}}


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (WELL | {"appliedRevision": 7, "desiredRevision": 7}, ""),
        (
            WELL | {"management": {"connected": False, "url": "nats://b", "error": "connection refused"}},
            "nats://b: connection refused",
        ),
        (WELL | {"pending": {"route 10.0.0.0/8": "Network is down"}}, "1 pending: route 10.0.0.0/8: Network is down"),
        (WELL | {"appliedRevision": 4, "desiredRevision": 7}, "revision 4 of 7 is applied"),
    ],
    ids=["well", "no bus", "pending", "behind"],
)
def test_the_check_says_what_is_amiss(shown: dict[str, object], reason: str) -> None:
    assert agent.amiss(shown) == reason


def answering(listener: socket.socket, *results: object) -> threading.Thread:
    """An agent that answers so many questions."""

    def tell() -> None:
        for result in results:
            connection, _ = listener.accept()
            connection.recv(4096)  # closing with a question unread would take the answer back
            connection.sendall(json.dumps({"result": result}).encode() + b"\n")
            connection.close()

    telling = threading.Thread(target=tell)
    telling.start()
    return telling


def test_a_check_that_fails_ends_with_one_and_the_reason(
    listener: socket.socket, whimbrel: Run, tmp_path: Path
) -> None:
    telling = answering(listener, WELL | {"appliedRevision": 4, "desiredRevision": 7})
    asked = whimbrel("status", "--check", "--socket", str(tmp_path / "agent.sock"))
    telling.join()
    assert (asked.code, asked.out, asked.err) == (1, "", "error: revision 4 of 7 is applied\n")


NOT_TOLD = {"172.17.0.1/16": "docker0 is a bridge for containers"}


@pytest.mark.parametrize(
    ("told", "reached"),
    [
        (Told(addresses=("192.0.2.7/24", "2001:db8::7/64")), "192.0.2.7:51820, [2001:db8::7]:51820"),
        (Told(left_out=NOT_TOLD), "nowhere: 172.17.0.1/16: docker0 is a bridge for containers"),
        (Told(), "nowhere: this host has no address that others could reach"),
    ],
)
@pytest.mark.timeout(20)
def test_where_a_host_is_told_to_be_reached_is_shown_or_why_it_is_nowhere(
    told: Told, reached: str, listener: socket.socket, whimbrel: Run, tmp_path: Path
) -> None:
    there, local = make.documents(), make.local()
    about = About(
        version="1", backend="wireguard-go", bus_url="nats://bus", bus_connected=True, told=told, limit="slow"
    )
    shown = replace(status(there, local, desired(there, local), {}, about), path_limit="narrow")

    def answer() -> None:
        with listener.accept()[0] as asking:
            asking.recv(4096)
            asking.sendall(msgspec.json.encode({"result": shown}) + b"\n")

    answering = threading.Thread(target=answer)
    answering.start()
    asked = whimbrel("status", "-d", "--socket", str(tmp_path / "agent.sock"))
    answering.join()
    assert asked.code == 0
    line = next(line for line in asked.out.splitlines() if line.startswith("Reached at"))
    assert line.removeprefix("Reached at").strip(" :") == reached
    assert "limit: slow\nlimit: narrow\n" in asked.out
    assert [one for one in asked.out.splitlines() if one.startswith("not told: ")] == [
        f"not told: {address}: {reason}" for address, reason in told.left_out.items()
    ]


STANDING = {"network": "10.1.0.0/16", "metric": 100, "path": "direct", "loss": 0.02}
OFFICE = {
    "id": "office",
    "network": "10.1.0.0/16",
    "domains": [],
    "status": "Selected",
    "resolvedIPs": {},
    "carriedBy": {"peerId": "b", "fqdn": "gw-b.test", "status": "Connected"},
    "reason": "",
    "choice": "the one before withdrew: eth1 is gone",
    "chosenAt": "2026-01-02T03:04:05.678Z",
    "routingPeers": [
        {**STANDING, "rank": 1, "fqdn": "gw-b.test", "state": "in use", "why": "", "latency": 12_340_000},
        {**STANDING, "rank": 2, "fqdn": "gw-a.test", "state": "withdrawn", "why": "eth1 is gone", "latency": 0},
    ],
}


@pytest.mark.timeout(20)
def test_networks_ls_lists_each_routing_peer_of_a_set_and_why_it_is_this_one(
    listener: socket.socket, whimbrel: Run, tmp_path: Path
) -> None:
    telling = answering(listener, [OFFICE, OFFICE | {"id": "alone", "routingPeers": OFFICE["routingPeers"][:1]}])  # type: ignore[index]
    lines = whimbrel("networks", "ls", "--socket", str(tmp_path / "agent.sock")).out.splitlines()
    telling.join()
    table = [" ".join(line.split()) for line in lines[4:]]
    assert table == [
        "ID NETWORK RANK ROUTING PEER STATE RTT LOSS PATH METRIC SINCE WHY",
        "office 10.1.0.0/16 1 gw-b.test in use 12.3 ms 2% direct 100 2026-01-02 03:04:05 "
        "the one before withdrew: eth1 is gone",
        "office 10.1.0.0/16 2 gw-a.test withdrawn direct 100 eth1 is gone",
    ]


@pytest.mark.timeout(20)
def test_networks_history_says_who_followed_whom_and_why(
    listener: socket.socket, whimbrel: Run, tmp_path: Path
) -> None:
    switch = {
        "at": "2026-01-02T03:04:05.678Z",
        "id": "office",
        "network": "10.1.0.0/16",
        "from": {"peerId": "a", "fqdn": "gw-a.test"},
        "to": {"peerId": "", "fqdn": ""},
        "cause": "down",
        "reason": "the one before does not answer, and no other is usable",
    }
    telling = answering(listener, [switch])
    lines = whimbrel("networks", "history", "office", "--socket", str(tmp_path / "agent.sock")).out.splitlines()
    telling.join()
    assert " ".join(lines[1].split()) == (
        "2026-01-02 03:04:05 office 10.1.0.0/16 gw-a.test nobody the one before does not answer, and no other is usable"
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("office", (0, "Nothing was switched.\n", "")),
        ("attic", (1, "", "error: not offered to this host: attic; see `whimbrel networks ls`\n")),
    ],
)
def test_a_history_of_a_network_that_is_none_is_refused(
    listener: socket.socket, whimbrel: Run, tmp_path: Path, network: str, said: tuple[int, str, str]
) -> None:
    listener.settimeout(5.0)
    telling = answering(listener, [], [{"id": "office"}])
    asked = whimbrel("networks", "history", network, "--socket", str(tmp_path / "agent.sock"))
    telling.join()
    assert (asked.code, asked.out, asked.err) == said


NAMES = Forwarder(
    names=("*.corp.example",),
    listening=("100.64.0.1", "fd00:64::1"),
    unbound={},
    nameservers=("192.0.2.53",),
    problem="",
    counts={},
    learned=0,
    left_out={},
)


@pytest.mark.parametrize(
    ("forwarder", "lines"),
    [
        (None, []),
        (NAMES, ["answered on port 22054 of 100.64.0.1, fd00:64::1"]),
        (
            replace(NAMES, listening=("fd00:64::1",), unbound={"100.64.0.1": "Address already in use"}),
            ["answered on port 22054 of fd00:64::1", "100.64.0.1: Address already in use"],
        ),
        (replace(NAMES, problem="this host has no nameserver"), ["this host has no nameserver"]),
        (replace(NAMES, listening=()), ["starting"]),
        (replace(NAMES, left_out={"x.corp.example": "loopback"}), ["22054", "x.corp.example: loopback"]),
    ],
)
@pytest.mark.timeout(20)
def test_d2_a_gateway_shows_how_names_are_answered_for_and_what_is_in_the_way(
    listener: socket.socket, whimbrel: Run, tmp_path: Path, forwarder: Forwarder | None, lines: list[str]
) -> None:
    there, local = make.documents(), make.local()
    about = About(version="1", backend="kernel", bus_url="nats://bus", bus_connected=True, forwarder=forwarder)
    telling = answering(listener, msgspec.to_builtins(status(there, local, desired(there, local), {}, about)))
    asked = whimbrel("status", "--socket", str(tmp_path / "agent.sock"))
    telling.join()
    assert asked.code == 0
    assert all(line in " ".join(asked.out.split()) for line in lines), asked.out
    assert ("Names" in asked.out) == bool(lines)
