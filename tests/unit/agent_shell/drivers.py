"""Drivers of a kernel in memory that refuses what it is told to refuse, and counts how often it was asked."""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from services.agent.core.firewall.ruleset import elements, shape
from services.agent.core.kernel import (
    FloatingAddress,
    Link,
    ObservedRuleset,
    PeerStats,
    RouteEntry,
    RuleEntry,
    RuleKey,
    Ruleset,
    SetOrMap,
    SysctlEntry,
    WireGuardDevice,
    WireGuardPeer,
)
from services.agent.loop.kernel import Drivers
from services.agent.loop.tunnel import tunnel

K = TypeVar("K")
V = TypeVar("V")


class Table(Generic[K, V]):
    """entries: what the kernel has. refused: key → error. lost: keys that are taken without effect.

    meanwhile: called once, while the next reading goes on.
    """

    def __init__(self, entries: Mapping[K, V] | None = None) -> None:
        self.entries: dict[K, V] = dict(entries or {})
        self.refused: dict[K, str] = {}
        self.lost: set[K] = set()
        self.writes = 0
        self.reads = 0
        self.broken = False
        self.meanwhile: Callable[[], None] | None = None

    async def observe(self) -> dict[K, V]:
        self.reads += 1
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()
        if self.broken:
            raise OSError(5, "Input/output error")
        return dict(self.entries)

    async def upsert(self, entries: Mapping[K, V]) -> dict[K, str]:
        self.writes += 1
        self.entries |= {
            key: value for key, value in entries.items() if key not in self.refused and key not in self.lost
        }
        return {key: self.refused[key] for key in entries if key in self.refused}

    async def delete(self, keys: Iterable[K]) -> dict[K, str]:
        self.writes += 1
        for key in keys:
            self.entries.pop(key, None)
        return {}


class Device:
    """WireGuard behind the link wt0 of `links`."""

    name = "fake"
    limit = ""

    def __init__(self, links: Table[str, Link]) -> None:
        self._links = links
        self.device: WireGuardDevice | None = None
        self.peers: Table[str, WireGuardPeer] = Table()

    async def create(self) -> None:
        if self.device is not None and "wt0" in self._links.entries:
            return
        self._links.entries["wt0"] = Link(name="wt0", mtu=1420, up=False, addresses=frozenset())
        self.device = WireGuardDevice(public_key="", listen_port=0, fwmark=0)

    async def destroy(self) -> None:
        self._links.entries.pop("wt0", None)
        self.device = None
        self.peers.entries.clear()

    async def observe(self) -> tuple[WireGuardDevice | None, dict[str, WireGuardPeer]]:
        return self.device, await self.peers.observe()

    async def configure(self, device: WireGuardDevice) -> str | None:
        if self.device is None:
            return "does not answer"
        self.device = device
        return None

    async def upsert(self, entries: Mapping[str, WireGuardPeer]) -> dict[str, str]:
        return await self.peers.upsert(entries)

    async def delete(self, keys: Iterable[str]) -> dict[str, str]:
        return await self.peers.delete(keys)

    async def stats(self) -> dict[str, PeerStats]:
        return {}

    async def move(self) -> None: ...


class Nftables:
    """refused: the error of every write, "" for none."""

    def __init__(self) -> None:
        self.ruleset: Ruleset | None = None
        self.refused = ""
        self.writes = 0

    async def observe(self) -> ObservedRuleset:
        if self.ruleset is None:
            return ObservedRuleset(shape="", elements={})
        return ObservedRuleset(shape=shape(self.ruleset), elements=elements(self.ruleset))

    async def replace(self, ruleset: Ruleset) -> str | None:
        self.writes += 1
        if not self.refused:
            self.ruleset = ruleset
        return self.refused or None

    async def change(
        self,
        add: Mapping[str, frozenset[str]],
        remove: Mapping[str, frozenset[str]],
        shape: str,
        anew: Mapping[str, SetOrMap],
    ) -> str | None:
        raise AssertionError("these tests change shapes only")

    async def destroy(self) -> str | None:
        self.writes += 1
        if not self.refused:
            self.ruleset = None
        return self.refused or None

    async def fill(self, elements: Mapping[str, Mapping[str, float]]) -> str | None:
        raise AssertionError("these tests have no dynamic sets")


class Memory:
    """A whole host."""

    def __init__(self, sysctls: Mapping[str, str] | None = None) -> None:
        self.links: Table[str, Link] = Table()
        self.device = Device(self.links)
        self.sysctls: Table[str, SysctlEntry] = Table(
            {path: SysctlEntry(path=path, value=value) for path, value in (sysctls or {}).items()}
        )
        self.rules: Table[RuleKey, RuleEntry] = Table()
        self.routes: Table[str, RouteEntry] = Table()
        self.floating: Table[str, FloatingAddress] = Table()
        self.nft = Nftables()

    def drivers(self) -> Drivers:
        return Drivers(
            ruleset=self.nft,
            others={
                **tunnel(self.links, self.device),
                "sysctl": self.sysctls,
                "rule": self.rules,
                "route": self.routes,
                "floating": self.floating,
            },
        )

    def is_bare(self) -> bool:
        """Nothing of ours is there."""
        tables = self.links, self.device.peers, self.rules, self.routes, self.floating
        return not any(table.entries for table in tables) and self.nft.ruleset is None
