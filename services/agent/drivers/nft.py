"""One nftables table through libnftables, each write one transaction."""

import asyncio
import ctypes
import errno
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from nftables import Nftables

from services.agent.core.firewall.gate import held_name
from services.agent.core.firewall.permits import VERSIONS
from services.agent.core.firewall.ruleset import shape
from services.agent.core.intervals import Network, Range, Version, merge, of
from services.agent.core.kernel import NFT_TABLE, Count, ObservedRuleset, RuleName, Ruleset, SetOrMap
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Netlink, Refusal, Request
from services.agent.drivers.nft_counts import NFGENMSG, NFPROTO_INET, counts
from services.agent.drivers.nft_sets import Contents, contents, fill_requests, refill_requests, remaining
from services.agent.drivers.nft_text import ABSENT, change_script, destroy_script, read_listing, replace_script
from services.agent.errors import MechanismMissing

LIBRARY = "libnftables.so.1"
NFT_MSG_GETTABLE, NFT_MSG_NEWGEN, NFT_MSG_GETGEN = (10 << 8 | kind for kind in (1, 15, 16))
NFTA_GEN_ID, NFTA_TABLE_NAME, NFTA_TABLE_FLAGS = 1, 1, 2
NFT_TABLE_F_DORMANT = 1

NOTHING: Mapping[str, SetOrMap] = {}

THREAD_FROM = 64 << 10
"""Characters from which a command or a listing goes to a thread: about 3,000 elements, 5 ms."""


class Nft:
    """Driver of table inet NFT_TABLE.

    accounted: the newest generation of the kernel's ruleset whose state is known here, read or written by us;
    notifications up to it are no news. emptied: how many times a table was taken only without what was in its sets.

    A single element takes 0.2 ms, one of 10,000 in an interval set 20 ms (nft reads the set first); a table with
    10,000 elements is replaced in 20-50 ms and read in 15-40. Reading it unchanged takes 30 us.
    """

    def __init__(self, table: str = NFT_TABLE) -> None:
        """Raises MechanismMissing without the library, nf_tables in the kernel, or the right to use it."""
        try:
            ctypes.CDLL(LIBRARY)
        except OSError:
            raise MechanismMissing("libnftables is missing: apt install libnftables1") from None
        self._netfilter = Netlink(netlink.NETFILTER)
        self._table = table
        self.accounted = self._generation()
        self.emptied = 0
        self._read_at: int | None = None
        self._observed = ABSENT
        self._listed = 0
        self._nft: Any = Nftables()
        self._nft.set_numeric_proto_output(True)  # names depend on the host's /etc/protocols
        self._turn = asyncio.Lock()
        self._filling = asyncio.Lock()

    async def observe(self) -> ObservedRuleset:
        """The table now; as it was last time when nothing at all changed in the kernel's ruleset."""
        async with self._turn:
            # Taken before the listing: what changes in between shows as another generation next time.
            generation = self._generation()
            if generation != self._read_at:
                self._observed = await self._list()
                self._read_at = self.accounted = generation
            return self._observed

    async def replace(self, ruleset: Ruleset) -> str | None:
        """Make the table the ruleset. The error when the kernel refused, and then nothing changed.

        A rule that says the same as one that stood in its chain goes on counting from there; what passes while the
        table is being written (20-50 ms with 10,000 elements) is not counted. All others begin anew.

        What is in dynamic sets is taken along in the same transaction, but keeps nothing from being withdrawn: when
        the kernel refuses the table with it, it is written without.
        """
        async with self._turn:
            counts = self._counts()
        script = partial(replace_script, self._table, ruleset, shape(ruleset), counts=counts)
        if not any(one.dynamic and not one.interval for one in ruleset.sets):
            return await self._write(script())
        async with self._filling:
            held = await self._contents(ruleset)
            error = await self._write(script(contents=held))
            if error and held:
                error = await self._write(script())
                self.emptied += not error
            return error

    async def fill(self, elements: Mapping[str, Mapping[str, float]]) -> str | None:
        """Put addresses into dynamic sets, or refresh them, in one transaction: set name → address → seconds to stay.

        At most 1,000 addresses. It waits while the table is replaced. Eight addresses take 0.08 ms, beside 10,000 of
        them and 10,000 elements of an interval set as well as beside 10.
        """
        async with self._filling:
            refused = self._fill(fill_requests(self._table, elements))
        return f"{' and '.join(elements)}: {refused.text}" if refused else None

    async def filled(self, ruleset: Ruleset) -> Mapping[str, Mapping[str, float]]:
        """What is in the dynamic sets of the ruleset now: set name → address → seconds it has left."""
        return {name: remaining(elements) for name, elements in (await self._contents(ruleset)).items()}

    async def hold(self, networks: Collection[Network], for_s: float) -> str | None:
        """Keep TCP connections from being opened to these and no other prefixes through the tunnel, for so long."""
        held: dict[str, tuple[Version, list[Range]]] = {
            held_name(version): (version, merge(of(one) for one in networks if one.version == version))
            for version in VERSIONS
        }
        async with self._filling:
            refused = self._fill(refill_requests(self._table, held, for_s))
        return f"{' and '.join(held)}: {refused.text}" if refused else None

    def _fill(self, requests: Sequence[Request]) -> Refusal | None:
        before = self._generation()
        refused = self._netfilter.transaction(requests, netlink.NFNL_SUBSYS_NFTABLES)
        if self._account(before) and before == self._read_at:
            self._read_at = self.accounted  # what is read does not show what is in dynamic sets
        return refused

    async def change(
        self,
        add: Mapping[str, frozenset[str]],
        remove: Mapping[str, frozenset[str]],
        shape: str,
        anew: Mapping[str, SetOrMap] = NOTHING,
    ) -> str | None:
        """Empty the sets and maps of `anew`, take elements out, and put others in.

        shape: of the table they were computed for, else nothing is changed.
        """
        if self._observed.shape != shape:
            return f"table {self._table} has another shape than the elements are for"
        return await self._write(change_script(self._table, add, remove, anew))

    async def counts(self) -> Mapping[RuleName, Count]:
        """What each rule of the table that decides has counted by now, if anything. 9 us a rule."""
        async with self._turn:
            return self._counts()

    async def destroy(self) -> str | None:
        """Remove the table, if there is one."""
        return await self._write(destroy_script(self._table))

    async def _write(self, script: str) -> str | None:
        async with self._turn:
            before = self._generation()
            code, _, problem = await self._run(script, len(script))
            self._account(before)
        return _line(problem) if code else None

    def _account(self, before: int) -> bool:
        """Whether what was written since generation `before` is ours alone: a step of one from a known state.

        Anything else has changes of others in it.
        """
        is_ours = before == self.accounted and self._generation() == before + 1
        if is_ours:
            self.accounted = before + 1
        return is_ours

    async def _contents(self, ruleset: Ruleset) -> Contents:
        """What is in the ruleset's dynamic sets now."""
        async with self._turn:
            code, listing, _ = await self._run(f"list sets table inet {self._table}", self._listed)
        return {} if code else contents(listing, ruleset.sets)

    def _counts(self) -> Mapping[RuleName, Count]:
        return counts(self._netfilter, self._table)

    async def _list(self) -> ObservedRuleset:
        self._nft.set_json_output(True)
        code, listing, _ = await self._run(f"list table inet {self._table}", self._listed)
        self._nft.set_json_output(False)
        self._listed = len(listing)
        if code:
            return ABSENT
        observed = read_listing(listing)
        return ObservedRuleset(shape="", elements=observed.elements) if self._dormant() else observed

    def _dormant(self) -> bool:
        """Whether the table is there and switched off, of which nft's JSON says nothing."""
        body = bytes((NFPROTO_INET, 0, 0, 0)) + netlink.text(NFTA_TABLE_NAME, self._table)
        answer = self._netfilter.get(Request(NFT_MSG_GETTABLE, 0, body))
        if isinstance(answer, Refusal):
            return False
        flags = netlink.attributes(answer.body[NFGENMSG:]).get(NFTA_TABLE_FLAGS, b"")
        return bool(int.from_bytes(flags, "big") & NFT_TABLE_F_DORMANT)

    async def _run(self, command: str, size: int) -> tuple[int, str, str]:
        if size < THREAD_FROM:
            return self._nft.cmd(command)  # type: ignore[no-any-return]
        return await asyncio.to_thread(self._nft.cmd, command)

    def _generation(self) -> int:
        answer = self._netfilter.get(Request(NFT_MSG_GETGEN, 0, bytes(NFGENMSG)))
        if isinstance(answer, Refusal):
            if answer.number == errno.EPERM:
                raise MechanismMissing("nftables needs root (CAP_NET_ADMIN): run as root")
            raise MechanismMissing(f"the kernel has no nftables ({answer.text}): load the module nf_tables")
        return int.from_bytes(netlink.attributes(answer.body[NFGENMSG:])[NFTA_GEN_ID], "big")


def _line(problem: str) -> str:
    """libnftables' first error in one line; it repeats the input below."""
    return problem.strip().split("\n", 1)[0].removeprefix("Error: ") or "nftables refused without a reason"
