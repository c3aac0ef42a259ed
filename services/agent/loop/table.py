"""Writing the nftables table: the smallest change that the kernel takes and shows afterwards, a larger one where not.

libnftables may refuse an element for good, and may also say that it did what it has not done. Neither must keep
anything else from being withdrawn, so what was written is read back and decides.
"""

from collections.abc import Callable

import structlog

from services.agent.core.firewall.closing import closed, closing
from services.agent.core.firewall.ruleset import Elements, Replace, change, same_forward, same_input, shape
from services.agent.core.kernel import ObservedRuleset, Ruleset
from services.agent.ports import RulesetDriver

DIFFERS = "reads back differently from what was written"

log = structlog.get_logger()


def _sets_anew(desired: Ruleset, observed: ObservedRuleset) -> Replace | Elements | None:
    return change(desired, observed, anew=True)


def _whole(desired: Ruleset, observed: ObservedRuleset) -> Replace | None:
    return Replace(desired) if change(desired, observed) else None


RUNGS: tuple[Callable[[Ruleset, ObservedRuleset], Replace | Elements | None], ...] = (change, _sets_anew, _whole)


async def write(driver: RulesetDriver, desired: Ruleset, observed: ObservedRuleset) -> str | None:
    """Make the observed table the desired one: elements, else whole sets, else the whole table.

    The error when nothing helped. What is no longer permitted is shut then, as far as the kernel takes that.
    """
    problem, tried = "", None
    for rung in RUNGS:
        step = rung(desired, observed)
        if step is None:
            return None
        if step == tried:
            continue
        if problem:
            log.warning("the nftables table is not as it was to be, writing more of it anew", problem=problem)
        tried = step
        problem = await _carry_out(driver, step) or DIFFERS
        observed = await driver.observe()
    if change(desired, observed) is None:
        return None
    await _shut(driver, desired, observed)
    return problem


async def _shut(driver: RulesetDriver, desired: Ruleset, observed: ObservedRuleset) -> None:
    """Shut what is withdrawn; everything, where the table is not to be understood or that fails as well."""
    if observed.shape:
        wanted = shape(desired)
        shut = closing(
            desired,
            observed,
            input_changed=not same_input(observed.shape, wanted),
            forward_changed=not same_forward(observed.shape, wanted),
        )
        if all(observed.elements.get(name) == pieces for name, pieces in shut.items()):
            return
        log.error("nftables does not take the table: what is no longer permitted is shut until it does")
        await driver.change(shut, {}, observed.shape, dict.fromkeys(shut, "set"))
        observed = await driver.observe()
        if all(observed.elements.get(name) == pieces for name, pieces in shut.items()):
            return
    everything = closed(desired)
    if observed.shape != shape(everything) or any(observed.elements.values()):
        log.error("nftables does not take the table: all traffic from the tunnel is shut until it does")
        await driver.replace(everything)


async def _carry_out(driver: RulesetDriver, step: Replace | Elements) -> str | None:
    match step:
        case Replace():
            return await driver.replace(step.ruleset)
        case Elements():
            return await driver.change(step.add, step.remove, step.shape, step.anew)
