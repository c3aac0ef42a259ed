"""What the kernel holds of ours, as last read, and how plans are carried out."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec.structs import replace

from services.agent.core.firewall.ruleset import Elements, Replace
from services.agent.core.kernel import Link, RouteEntry, RuleEntry, RuleKey, SysctlEntry, WireGuardDevice
from services.agent.core.reconcile.desired_state import Observed
from services.agent.core.reconcile.order import Delete, Destroy, Step, Upsert
from services.agent.errors import MechanismMissing
from services.agent.loop import table
from services.agent.ports import Driver, RulesetDriver, WireGuardDriver

Part: TypeAlias = Literal["link", "device", "sysctl", "rule", "route", "ruleset"]
"""What is read at once; peers are read with their device."""

PARTS: tuple[Part, ...] = ("link", "device", "sysctl", "rule", "route", "ruleset")

RULESET = ("ruleset", "")
WAITS = "waits for the ruleset"

Entry: TypeAlias = tuple[str, Any]
"""Kind and key of what a step changes; the whole nftables table is RULESET."""

Blocked: TypeAlias = Callable[[Entry, Any], str]
"""Takes an entry and the value it is to get; says why it is not tried now, "" when it is."""


class Drivers(NamedTuple):
    links: Driver[str, Link]
    device: WireGuardDriver
    sysctls: Driver[str, SysctlEntry]
    rules: Driver[RuleKey, RuleEntry]
    routes: Driver[str, RouteEntry]
    ruleset: RulesetDriver


class Kernel:
    """`observed` is what was read; parts that may have changed since are dirty and read anew by `observe`."""

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers
        self._dirty: set[Part] = set(PARTS)
        self.observed = Observed()

    def disturb(self, parts: Iterable[Part] = PARTS) -> None:
        """These parts may no longer be what was read."""
        self._dirty.update(parts)

    async def observe(self) -> bool:
        """Read what is dirty; gives whether anything was. Raises OSError when it cannot be read, and is dirty still."""
        if not self._dirty:
            return False
        parts, self._dirty = self._dirty, set()
        for part in PARTS:
            if part not in parts:
                continue
            before = self.observed.links
            try:
                await self._read(part)
            except BaseException:
                self._dirty |= parts
                raise
            parts.discard(part)
            if self.observed.links != before:
                parts.update(PARTS[1:])  # routes vanish with their link, and the kernel does not say so for IPv4
        return True

    async def _read(self, part: Part) -> None:
        drivers = self._drivers
        match part:
            case "link":
                self.observed = replace(self.observed, links=await drivers.links.observe())
            case "device":
                device, peers = await drivers.device.observe()
                devices = dict.fromkeys(self.observed.links, device) if device else {}
                self.observed = replace(self.observed, devices=devices, peers=peers)
            case "sysctl":
                self.observed = replace(self.observed, sysctls=await drivers.sysctls.observe())
            case "rule":
                self.observed = replace(self.observed, rules=await drivers.rules.observe())
            case "route":
                self.observed = replace(self.observed, routes=await drivers.routes.observe())
            case "ruleset":
                self.observed = replace(self.observed, ruleset=await drivers.ruleset.observe())

    async def apply(self, steps: Iterable[Step], blocked: Blocked) -> dict[Entry, str]:
        """Carry out a plan; what was touched is dirty afterwards. Entry → why it was not done.

        A ruleset that failed keeps shut whatever would open.
        """
        errors: dict[Entry, str] = {}
        for step in steps:
            for part in touched(step):
                self._dirty.add(part)
            if isinstance(step, Upsert | Delete) and step.opens and RULESET in errors:
                errors |= dict.fromkeys(entries(step), WAITS)
                continue
            held_back = {entry: reason for entry, value in entries(step).items() if (reason := blocked(entry, value))}
            errors |= held_back
            if rest := without(step, held_back):
                errors |= await self._carry_out(rest)
        return errors

    async def _carry_out(self, step: Step) -> dict[Entry, str]:
        ruleset = self._drivers.ruleset
        match step:
            case Replace() | Elements():
                return _table(await table.write(ruleset, step.ruleset, self.observed.ruleset))
            case Destroy():
                return _table(await ruleset.destroy())
            case Upsert():
                return _named(step.kind, await self._upsert(step.kind, step.entries))
            case Delete():
                return _named(step.kind, await self._delete(step.kind, step.keys))

    async def _upsert(self, kind: str, values: Mapping[Any, Any]) -> Mapping[Any, str]:
        drivers = self._drivers
        match kind:
            case "link":
                return await self._link(values)
            case "device":
                return await self._device(values)
            case "peer":
                return await drivers.device.upsert(values)
            case "sysctl":
                return await drivers.sysctls.upsert(values)
            case "rule":
                return await drivers.rules.upsert(values)
        return await drivers.routes.upsert(values)

    async def _link(self, values: Mapping[str, Link]) -> Mapping[str, str]:
        if not values.keys() <= self.observed.links.keys() and (error := await self._create()):
            return dict.fromkeys(values, error)
        return await self._drivers.links.upsert(values)

    async def _device(self, values: Mapping[str, WireGuardDevice]) -> Mapping[str, str]:
        """Configure it; one that did not answer behind its link is made anew, unless it answers by now."""
        error = None if self.observed.devices else await self._create()
        error = error or await self._drivers.device.configure(next(iter(values.values())))
        return dict.fromkeys(values, error) if error else {}

    async def _create(self) -> str | None:
        try:
            await self._drivers.device.create()
        except MechanismMissing as problem:
            return problem.message
        self.disturb()
        return None

    async def _delete(self, kind: str, keys: tuple[Any, ...]) -> Mapping[Any, str]:
        drivers = self._drivers
        match kind:
            case "link":
                await drivers.device.destroy()
                self.disturb()
                return {}
            case "peer":
                return await drivers.device.delete(keys)
            case "sysctl":
                return await drivers.sysctls.delete(keys)
            case "rule":
                return await drivers.rules.delete(keys)
        return await drivers.routes.delete(keys)


def entries(step: Step) -> dict[Entry, Any]:
    """What a step changes, with the value it is to get; None for what is to go."""
    match step:
        case Replace():
            return {RULESET: step.ruleset}
        case Elements():
            return {RULESET: (step.add, step.remove)}
        case Destroy():
            return {RULESET: None}
        case Upsert():
            return {(step.kind, key): value for key, value in step.entries.items()}
        case Delete():
            return {(step.kind, key): None for key in step.keys}


def without(step: Step, left_out: Iterable[Entry]) -> Step | None:
    """The step without some of its entries, None when nothing remains."""
    keys = {key for _, key in left_out}
    if not keys:
        return step
    match step:
        case Upsert():
            kept = {key: value for key, value in step.entries.items() if key not in keys}
            return replace(step, entries=kept) if kept else None
        case Delete():
            remaining = tuple(key for key in step.keys if key not in keys)
            return replace(step, keys=remaining) if remaining else None
    return None


def touched(step: Step) -> tuple[Part, ...]:
    """What has to be read back after a step."""
    match step:
        case Upsert() | Delete():
            return ("device" if step.kind == "peer" else step.kind,)
    return ("ruleset",)


def _table(error: str | None) -> dict[Entry, str]:
    return {RULESET: error} if error else {}


def _named(kind: str, errors: Mapping[Any, str]) -> dict[Entry, str]:
    return {(kind, key): error for key, error in errors.items()}
