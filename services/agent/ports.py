"""What the parts of the agent need of each other.

What the loop needs of a mechanism: a driver observes what is ours, and upserts or deletes it, idempotently.

Errors come back per entry, key → one line for a person, so that a failing entry stays dirty and the rest goes on.
A driver raises only MechanismMissing (services/agent/errors.py), when the mechanism as a whole is not there.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec
from nats.aio.client import Client

from services.agent.core.dns.hostdns import Mechanism, Wanted
from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.core.ha.candidacy import DeviceState
from services.agent.core.ha.flows import Flow, Socket
from services.agent.core.ha.probing import Targets
from services.agent.core.ha.standing import Health
from services.agent.core.intervals import Network
from services.agent.core.kernel import (
    Count,
    FloatingAddress,
    ObservedRuleset,
    PeerStats,
    RuleName,
    Ruleset,
    SetOrMap,
    WireGuardDevice,
    WireGuardPeer,
)
from services.agent.core.reconcile.steps import Kind
from services.agent.core.routing.following import Answer, Entrance, OtherRule

K = TypeVar("K")
V = TypeVar("V")


class Driver(Protocol[K, V]):
    """One kind of kernel object, a table of core/reconcile/tables.py: drivers/rtnl_routes.py, sysctl.py, …"""

    async def observe(self) -> Mapping[K, V]: ...

    async def upsert(self, entries: Mapping[K, V]) -> Mapping[K, str]: ...

    async def delete(self, keys: Iterable[K]) -> Mapping[K, str]: ...


class WireGuardDriver(Protocol):
    """The WireGuard device behind one interface: drivers/kernelspace.py and userspace.py.

    `create` makes the interface when it is missing and adopts one that a predecessor left; `destroy` removes it.
    `name` is "kernel" or "wireguard-go". `limit` says what does not work as it should here, and the remedy.
    """

    name: str
    limit: str

    async def create(self) -> None: ...

    async def destroy(self) -> None: ...

    async def observe(self) -> tuple[WireGuardDevice | None, Mapping[str, WireGuardPeer]]: ...

    async def configure(self, device: WireGuardDevice) -> str | None: ...

    async def upsert(self, entries: Mapping[str, WireGuardPeer]) -> Mapping[str, str]: ...

    async def delete(self, keys: Iterable[str]) -> Mapping[str, str]: ...

    async def stats(self) -> Mapping[str, PeerStats]: ...

    async def move(self) -> None:
        """This host's addresses are other ones: send from those there are now, and let each peer hear from there."""


class WaysDriver(Protocol):
    """Where the kernel sends packets: drivers/rtnl_ways.py. Raises OSError when the kernel cannot be asked."""

    async def ask(self, addresses: Mapping[str, str], entrance: Entrance | None = None) -> Mapping[str, Answer]: ...

    def others(self) -> tuple[OtherRule, ...]: ...


class GatewayDriver(Protocol):
    """What besides its ways decides what a host can carry: drivers/gateway.py. Raises OSError when it cannot be read.

    device: how the overlay interface is. networks: those that the host's other interfaces have addresses in. settings:
    path → value of those that the kernel has.
    """

    def device(self) -> DeviceState: ...

    def networks(self) -> frozenset[Network]: ...

    def settings(self, paths: Iterable[str]) -> Mapping[str, str]: ...


class RulesetDriver(Protocol):
    """nftables: drivers/nft.py. Each call is one transaction: applied, or the error comes back and nothing is."""

    async def observe(self) -> ObservedRuleset: ...

    async def replace(self, ruleset: Ruleset) -> str | None: ...

    async def change(
        self,
        add: Mapping[str, frozenset[str]],
        remove: Mapping[str, frozenset[str]],
        shape: str,
        anew: Mapping[str, SetOrMap],
    ) -> str | None: ...

    async def destroy(self) -> str | None: ...

    async def fill(self, elements: Mapping[str, Mapping[str, float]]) -> str | None:
        """Put addresses into dynamic sets, or refresh those that are there: set name → address → seconds to stay.

        At most 1,000 addresses, all of them or none. `replace` keeps what is in a dynamic set of the former table when
        the new one has a set of that name and type.
        """


class LearnedDriver(Protocol):
    """The sets of learned addresses: drivers/nft.py. filled: set name → address → seconds it has left.

    emptied: how many times the table was taken only without what was in them.
    """

    @property
    def emptied(self) -> int: ...

    async def fill(self, elements: Mapping[str, Mapping[str, float]]) -> str | None: ...

    async def filled(self, ruleset: Ruleset) -> Mapping[str, Mapping[str, float]]: ...


HostChange: TypeAlias = Literal["addresses", "departed", "ways"]
"""What others may have changed of the host's own: its addresses and default routes, or its other routes.

departed: an address went. It may be there again when somebody looks, but meanwhile packets left from another one.
"""


class Notifications(Protocol):
    """What the kernel tells of changes by others: drivers/notifications.py.

    `read` takes what has come in, without waiting, and leaves out what our own changes caused: kinds of kernel objects
    that are dirty, and each HostChange.
    """

    def filenos(self) -> tuple[int, ...]: ...

    def read(self) -> frozenset[Kind | HostChange]: ...

    def close(self) -> None: ...


class Heard(NamedTuple):
    """An ICMP message that came in. source: canonical address. at: monotonic seconds of its arrival."""

    source: str
    message: bytes
    at: float


class EchoDriver(Protocol):
    """Sends ICMP messages and hears echo replies of one identifier: drivers/icmp.py.

    `send` gives "", or why the message did not leave this host. `read` takes what has come in, without waiting.
    """

    def filenos(self) -> tuple[int, ...]: ...

    def send(self, address: str, message: bytes) -> str: ...

    def read(self) -> Iterable[Heard]: ...

    def close(self) -> None: ...


class Accepted(NamedTuple):
    """A TCP connection that the address accepted. number: as it was sent with. at: monotonic seconds."""

    address: str
    number: int
    at: float


class ConnectDriver(Protocol):
    """Begins TCP connections and ends each as soon as it is accepted: drivers/tcp_probe.py. As EchoDriver."""

    def filenos(self) -> tuple[int, ...]: ...

    def send(self, address: str, port: int, number: int) -> str: ...

    def read(self) -> Iterable[Accepted]: ...

    def close(self) -> None: ...


class Asking(Protocol):
    """Asks targets whether they are there, and hears their answers: asking.py.

    `open` before anything else: whether this host may ask by echo. `heard` is called when a verdict changed between two
    calls of `ask`; `close` ends it.
    `ask` takes who is to be asked from now on, asks those who are due, and gives the monotonic second at which it is to
    be called again, None for whenever the targets change. `nudge` has some asked with the next `ask`.
    asked: key → questions that left this host for the target so far.
    """

    @property
    def health(self) -> Mapping[str, Health]: ...

    @property
    def asked(self) -> Mapping[str, int]: ...

    def open(self, heard: Callable[[], None]) -> bool: ...

    def ask(self, targets: Targets) -> float | None: ...

    def nudge(self, keys: Iterable[str]) -> None: ...

    def close(self) -> None: ...


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Who connects to the bus: a peer by its seed, or a host that enrols by user name and setup key.

    name: what the connection is called. inbox: whose reply subjects it uses (subjects.inbox).
    """

    name: str
    inbox: str
    seed: str = ""
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Login(name={self.name!r})"


class Dial(Protocol):
    """Opens one connection to the bus, which ends when it is lost: dial.py.

    on_error hears what the connection reports while it stands, on_closed that it ended. Raises BusUnavailable
    (shared/errors.py) and AdmissionRefused (services/agent/errors.py).
    """

    async def __call__(
        self,
        login: Login,
        on_error: Callable[[Exception], Awaitable[None]] | None = None,
        on_closed: Callable[[], Awaitable[None]] | None = None,
    ) -> Client: ...


class Publish(Protocol):
    """Sends on the connection there is: bus/outbox.py. False when there is none."""

    async def __call__(self, subject: str, payload: bytes) -> bool: ...


class AskManagement(Protocol):
    """Asks on the connection there is: bus/outbox.py. None when nobody answers within so many seconds."""

    async def __call__(self, subject: str, payload: bytes, within_s: float) -> bytes | None: ...


class NeighboursPort(Protocol):
    """What hosts of a LAN say of one address: drivers/neighbours.py. MACs are hexadecimal.

    ask: one host by its MAC, or all for "". heard: who said so far to have it. is_there: whether the LAN still is.
    """

    @property
    def is_there(self) -> bool: ...

    def fileno(self) -> int: ...

    def ask(self, to: str) -> None: ...

    def announce(self) -> None: ...

    def heard(self) -> list[str]: ...

    def close(self) -> None: ...


class LanDriver(Protocol):
    """The LANs of this host: drivers/neighbours.py.

    held: addresses of ours that the kernel has. received: packets that came in by an interface. sent_by_clients: what
    the rules of core/firewall/returned.py count. neighbours: raises OSError where the interface leads to none.
    """

    async def held(self) -> Mapping[str, FloatingAddress]: ...

    def received(self, interface: str) -> int: ...

    def sent_by_clients(self) -> Mapping[RuleName, Count]: ...

    def neighbours(self, interface: str, address: str, source: str) -> NeighboursPort: ...


class Introductions(Protocol):
    """Tells other peers where this host is, over the bus: bus/signalling.py."""

    async def introduce(
        self, receiver: str, endpoints: tuple[str, ...], *, generation: int, answer_wanted: bool
    ) -> bool:
        """Tell a peer where this host may be reached; False when there is no bus to say it on."""


class Farewells(Protocol):
    """Tells routing peers what this host left them, over the bus: bus/signalling.py."""

    async def depart(self, receiver: str, routes: Collection[str]) -> None: ...


class SocketsDriver(Protocol):
    """The TCP connections of this host's own: drivers/sockdiag.py. Raises MechanismMissing and OSError."""

    def of(self, addresses: Iterable[str]) -> Iterable[Socket]: ...

    def end(self, sockets: Iterable[Socket]) -> int: ...


class HoldDriver(Protocol):
    """The gate for new connections: drivers/nft.py. `hold` gives why it did nothing; no prefixes open it again."""

    async def hold(self, networks: Collection[Network], for_s: float) -> str | None: ...


class ConntrackDriver(Protocol):
    """The connections that the kernel tracks: drivers/conntrack.py. Raises MechanismMissing and OSError."""

    def begun_by(self, addresses: Collection[str]) -> Iterable[Flow]: ...

    def tcp(self) -> Iterable[Flow]: ...

    def forget(self, flows: Iterable[Flow]) -> int: ...


class Kept(Protocol[V]):
    """A value that is kept from run to run: state/statefile.py.

    `keep` is durable once it returns, and raises OSError when the disk takes nothing more.
    """

    @property
    def value(self) -> V: ...

    def keep(self, value: V) -> None: ...


class Request(msgspec.Struct, frozen=True):
    """What is asked on the agent's socket.

    do: "status", "networks", "history", "dns", "select", "deselect" or "down". ids: network ids, ("all",) for all of
    them; of "dns" a name and a type.
    drain_s: before it goes down, how long it may wait for its clients to leave.
    """

    do: str
    ids: tuple[str, ...] = ()
    append: bool = False
    drain_s: float = 10.0


class HostDnsDriver(Protocol):
    """How programs of this host find their DNS servers: drivers/resolved.py, resolvconf.py, resolv_conf.py.

    `own`: whom they asked without us. `apply` has them ask us, does nothing where they do already, and gives whether
    somebody else had changed that. `revert` puts back what was there, also what a former run left. limit: why nothing
    is changed here, "" where it is. All raise OSError.
    """

    name: Mechanism
    limit: str

    async def own(self) -> ResolvConf: ...

    async def apply(self, wanted: Wanted) -> bool: ...

    async def revert(self) -> None: ...
