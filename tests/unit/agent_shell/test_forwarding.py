"""The agent's side of the forwarder: what it does while the kernel refuses, and with whatever the process says."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping

import pytest

from services.agent import forwarding
from services.agent.cells import counted
from services.agent.core.documents import Documents
from services.agent.core.firewall.learned import learned_name
from services.agent.core.forwarder import learned
from services.agent.core.forwarder.messages import (
    LENGTH_BYTES,
    MOST_ADDRESSES,
    MOST_BYTES,
    MOST_FOR_S,
    MOST_NAME,
    Filled,
    Follow,
    Permit,
    State,
    ToAgent,
    ToForwarder,
    framed,
    read_by_forwarder,
)
from services.agent.core.ha.flows import Flow
from services.agent.core.kernel import Ruleset
from services.agent.core.reconcile.desired import desired
from services.agent.errors import MechanismMissing
from services.agent.forwarding import Forwards
from services.agent.situation import PassResult, Situation
from tests.support.bus import eventually
from tests.unit.agent import make

NAME, ADDRESS, OTHER = "db.corp.example", "10.9.0.2", "10.9.0.3"
SET = learned_name("lan", 4)
REFUSALS = ("no such set", OSError("No buffer space available"), MechanismMissing("nftables needs root"))


class Sets:
    """The sets in the kernel. fails, unread: how the next times of writing and reading fail. unlisted: connections."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, float]] = {}
        self.emptied = 0
        self.fails: list[str | Exception] = []
        self.unread: list[Exception] = []
        self.unlisted: Exception | None = None

    async def fill(self, elements: Mapping[str, Mapping[str, float]]) -> str | None:
        if self.fails:
            problem = self.fails.pop(0)
            if isinstance(problem, Exception):
                raise problem
            return problem
        for name, timeouts in elements.items():
            self.held.setdefault(name, {}).update(timeouts)
        return None

    async def filled(self, ruleset: Ruleset) -> Mapping[str, Mapping[str, float]]:
        if self.unread:
            raise self.unread.pop(0)
        return {name: dict(timeouts) for name, timeouts in self.held.items()}

    def begun_by(self, addresses: Iterable[str]) -> list[Flow]:
        if self.unlisted is not None:
            raise self.unlisted
        return []


class Agent:
    """The part of the agent, and a process that the test plays."""

    def __init__(self) -> None:
        self.sets = Sets()
        self.situation = Situation(make.local())
        self.forwards = Forwards(self.situation, self.sets, self.sets, self._start)  # type: ignore[arg-type]
        self.ends: list[socket.socket] = []
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    def _start(self) -> "tuple[socket.socket, subprocess.Popen[bytes]]":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.ends.append(theirs)
        return ours, subprocess.Popen(["true"])

    def passes(self, documents: Documents) -> None:
        wanted = desired(documents, make.local())
        self.situation.passed.set(PassResult(documents=documents, local=make.local(), desired=wanted))

    def is_dirty(self) -> None:
        """Others changed the table, and a pass went over it."""
        self.situation.dirty.set(counted(self.situation.dirty.value, ["ruleset"]))
        self.situation.passed.set(self.situation.passed.value)

    async def meet(self, count: int = 1) -> None:
        """Be the process that was started last, of so many."""
        await eventually(lambda: len(self.ends) == count)
        self.reader, self.writer = await asyncio.open_unix_connection(sock=self.ends[-1])
        assert isinstance(await self.hear(), Follow)

    def say(self, message: ToAgent) -> None:
        self.writer.write(framed(message))

    async def hear(self) -> ToForwarder:
        async with asyncio.timeout(10):
            size = int.from_bytes(await self.reader.readexactly(LENGTH_BYTES))
            message: ToForwarder = read_by_forwarder(await self.reader.readexactly(size))
            return message

    async def permitted(self, permit: Permit) -> str:
        """Why not."""
        self.say(permit)
        heard = await self.hear()
        assert isinstance(heard, Filled)
        assert heard.number == permit.number
        return heard.problem


def documents() -> Documents:
    route = make.served("lan", by="gw", domains=("*.corp.example",), distribution=("office",))
    return make.documents(make.me("gw"), [make.peer("alice", "office")], routes=[route])


def permit(*addresses: str, number: int = 1, name: str = NAME, for_s: float = 900.0) -> Permit:
    return Permit(number, ("lan",), name, addresses or (ADDRESS,), for_s)


@pytest.fixture
async def agent(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agent]:
    monkeypatch.setattr(forwarding, "FILL_AGAIN_S", 0.01)
    monkeypatch.setattr(forwarding, "START_AGAIN_S", 0.01)
    made = Agent()
    running = asyncio.create_task(made.forwards.run())
    await asyncio.sleep(0)
    try:
        yield made
        assert not running.done(), "whatever happens it goes on"
    finally:
        running.cancel()
        await asyncio.wait([running])
        for end in made.ends:
            end.close()


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_d4_a_kernel_that_does_not_take_an_address_is_told_and_ends_neither_agent_nor_forwarder(
    agent: Agent, refusal: str | Exception
) -> None:
    agent.passes(documents())
    await agent.meet()
    agent.sets.fails.append(refusal)
    assert await agent.permitted(permit()) == str(refusal)
    assert await agent.permitted(permit(number=2)) == ""
    assert agent.sets.held[SET].keys() == {ADDRESS}
    assert len(agent.ends) == 1


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_look_at_what_ends_goes_on_after_a_refusal(agent: Agent, refusal: str | Exception) -> None:
    agent.sets.held = {SET: {ADDRESS: 30.0}}
    agent.sets.unlisted = OSError("connections cannot be listed")
    agent.passes(documents())
    await agent.meet()
    agent.sets.fails.append(refusal)
    agent.sets.unread.append(MechanismMissing("nftables needs root"))
    await agent.forwards.look()
    assert (agent.sets.fails, agent.sets.unread) == ([], [])
    await agent.forwards.look()
    assert agent.sets.held[SET][ADDRESS] > 500


async def test_r1_what_a_former_run_left_is_read_again_until_that_works(agent: Agent) -> None:
    agent.sets.held = {SET: {ADDRESS: 600_000.0}}
    agent.sets.unread = [MechanismMissing("nftables needs root"), OSError("interrupted")]
    agent.passes(documents())
    await agent.meet()
    await eventually(lambda: agent.situation.forwarder.value.learned == 1)
    assert agent.sets.unread == []
    agent.sets.held = {}
    agent.is_dirty()
    await eventually(lambda: agent.sets.held.get(SET, {}).keys() == {ADDRESS})
    assert agent.sets.held[SET][ADDRESS] > 599_000


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_d4_what_others_emptied_is_filled_until_that_works(agent: Agent, refusal: str | Exception) -> None:
    agent.passes(documents())
    await agent.meet()
    assert await agent.permitted(permit()) == ""
    agent.sets.held = {}
    agent.sets.fails = [refusal, refusal]
    agent.is_dirty()
    await eventually(lambda: agent.sets.held.get(SET, {}).keys() == {ADDRESS})


async def test_d4_what_a_table_was_taken_without_is_filled_again(agent: Agent) -> None:
    agent.passes(documents())
    await agent.meet()
    assert await agent.permitted(permit()) == ""
    agent.sets.held = {}
    agent.sets.emptied += 1
    agent.situation.passed.set(agent.situation.passed.value)
    await eventually(lambda: agent.sets.held.get(SET, {}).keys() == {ADDRESS})


async def test_d4_while_a_set_waits_to_be_filled_again_no_address_counts_as_there(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.passes(documents())
    await agent.meet()
    assert await agent.permitted(permit()) == ""
    monkeypatch.setattr(forwarding, "FILL_AGAIN_S", 3600.0)
    agent.sets.held = {}
    agent.sets.fails = ["no such set"]
    agent.is_dirty()
    await eventually(lambda: not agent.sets.fails)
    assert await agent.permitted(permit(number=2, for_s=60.0)) == ""
    assert agent.sets.held[SET].keys() == {ADDRESS}


@pytest.mark.parametrize(
    "unfit",
    [
        permit("127.0.0.1"),
        permit(ADDRESS, "169.254.169.254"),
        permit("100.64.0.77"),
        permit("100.64.0.1"),
        permit("::ffff:10.9.0.2"),
        permit("fd00:9::2%eth0"),
        permit("10.9.0.0/24"),
        permit(""),
        permit(for_s=MOST_FOR_S + 1),
        permit(for_s=0.0),
        permit(for_s=float("nan")),
        permit(for_s=float("inf")),
        permit(name="x" * (MOST_NAME + 1)),
        permit(*[ADDRESS] * (MOST_ADDRESSES + 1)),
    ],
    ids=lambda one: f"{one.addresses[-1]}-{one.for_s}-{len(one.name)}",
)
async def test_what_no_name_may_lead_to_is_not_permitted_whatever_the_process_says(agent: Agent, unfit: Permit) -> None:
    agent.passes(documents())
    await agent.meet()
    assert await agent.permitted(unfit)
    assert agent.sets.held == {}
    assert await agent.permitted(permit(number=2)) == ""


@pytest.mark.parametrize(
    "garbage",
    [
        (3).to_bytes(LENGTH_BYTES) + b"\xc1\xc1\xc1",
        (1).to_bytes(LENGTH_BYTES) + b"\x01",
        (MOST_BYTES + 1).to_bytes(LENGTH_BYTES),
        b"\xff" * 64,
        framed(State())[:-1] + b"\xff",
        bytes(LENGTH_BYTES),
    ],
)
async def test_a_process_that_says_what_nobody_can_read_is_ended_and_started_again(
    agent: Agent, garbage: bytes
) -> None:
    agent.passes(documents())
    await agent.meet()
    agent.writer.write(garbage)
    await agent.meet(2)
    assert await agent.permitted(permit()) == ""


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_r1_a_crowded_route_lets_go_of_what_no_connection_leads_to(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, refusal: str | Exception
) -> None:
    monkeypatch.setattr(learned, "MOST_OF_ONE", 4)
    monkeypatch.setattr(learned, "IN_USE_S", -1.0)
    agent.passes(documents())
    await agent.meet()
    assert await agent.permitted(permit(*(f"10.9.0.{number}" for number in range(2, 6)))) == ""
    assert await agent.permitted(permit("10.9.0.9", number=2)) == "too many addresses of names are permitted already"
    agent.sets.unlisted = OSError("connections cannot be listed")
    await agent.forwards.look()
    assert len([left for left in agent.sets.held[SET].values() if left > 1.0]) == 4, "rather too many than one in use"
    agent.sets.unlisted = None
    agent.sets.fails.append(refusal)
    await agent.forwards.look()
    assert agent.situation.forwarder.value.learned == 4
    await agent.forwards.look()
    assert len([left for left in agent.sets.held[SET].values() if left > 1.0]) == 3
    assert await agent.permitted(permit("10.9.0.9", number=3)) == ""


async def test_who_keeps_rights_is_told_once(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.passes(documents())
    await agent.meet()
    for number in (1, 2):
        agent.say(State(counts={"known": number}, rights="this host does not let it"))
    await eventually(lambda: agent.situation.forwarder.value.state.counts == {"known": 2})
    said = capsys.readouterr()
    assert (said.out + said.err).count("more rights than it needs") == 1
