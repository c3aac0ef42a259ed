"""An nftables driver in memory that refuses, loses and ignores what it is told to."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from msgspec.structs import replace

from services.agent.core.firewall.closing import is_closed_set
from services.agent.core.firewall.ruleset import Elements, elements, shape
from services.agent.core.kernel import NftChain, ObservedRuleset, Ruleset, SetOrMap
from services.agent.core.rule import Rule
from tests.fakes.kernel import FakeKernel

Fault: TypeAlias = Literal["", "refuse", "ignore", "lose"]
"""What becomes of a write: done, refused, not done although it says so, or done but for what it was to take out."""

REFUSED = "interval overlaps with an existing one"


class FaultyNft:
    """faults: what becomes of the next writes; all later ones are done. shut_faults: the same for those that only shut.

    table: what is there at first, None for no table. poison: says of a whole table whether it is refused, whatever the
    faults.
    """

    def __init__(self, table: Ruleset | None, faults: Iterable[Fault] = (), shut_faults: Iterable[Fault] = ()) -> None:
        self._kernel = FakeKernel()
        self._kernel.ruleset = table
        self._faults, self._shut_faults = iter(faults), iter(shut_faults)
        self.writes: list[str] = []
        self.poison: Callable[[Ruleset], bool] = lambda _: False
        self._is_ours = True

    @property
    def table(self) -> Ruleset | None:
        return self._kernel.ruleset

    @property
    def filled(self) -> Mapping[str, Mapping[str, float]]:
        """What is in dynamic sets: name → address → seconds left."""
        return self._kernel.filled

    def meddle(self, chain: str) -> None:
        """Another program puts a rule in front of a chain that accepts everything."""
        assert self.table is not None
        chains = (
            replace(one, rules=(Rule((), "accept"), *one.rules)) if one.name == chain else one
            for one in self.table.chains
        )
        self._kernel.replace(replace(self.table, chains=tuple[NftChain, ...](chains)))
        self._is_ours = False

    async def observe(self) -> ObservedRuleset:
        if self.table is None:
            return ObservedRuleset(shape="", elements={})
        return ObservedRuleset(shape=shape(self.table) if self._is_ours else "", elements=elements(self.table))

    async def replace(self, ruleset: Ruleset) -> str | None:
        fault = self._next("replace", shuts=not ruleset.maps)
        if fault == "refuse" or self.poison(ruleset):
            return REFUSED
        if not fault:
            self._kernel.replace(ruleset)
            self._is_ours = True
        return None

    async def change(
        self,
        add: Mapping[str, frozenset[str]],
        remove: Mapping[str, frozenset[str]],
        shape: str,
        anew: Mapping[str, SetOrMap],
    ) -> str | None:
        assert self.table is not None
        fault = self._next("anew" if anew else "change", shuts=any(map(is_closed_set, add)))
        if fault == "refuse":
            return REFUSED
        if fault != "ignore":
            lost = fault == "lose"
            self._kernel.apply([Elements(add, {} if lost else remove, shape, self.table, {} if lost else anew)])
        return None

    async def fill(self, elements: Mapping[str, Mapping[str, float]]) -> str | None:
        return self._kernel.fill(elements)

    async def destroy(self) -> str | None:
        self._kernel.replace(None)
        return None

    def _next(self, what: str, *, shuts: bool) -> Fault:
        self.writes.append(f"{what} to shut" if shuts else what)
        return next(self._shut_faults if shuts else self._faults, "")
