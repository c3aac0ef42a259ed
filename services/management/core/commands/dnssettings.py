"""Change the DNS settings of the account."""

from collections.abc import Iterable
from typing import Annotated

from services.management.core.commands.checks import existing_groups, unique
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.request import Request, about
from services.management.core.model.commit import Activity
from services.management.core.model.dnssettings import DnsSettings
from services.management.core.state import AccountState


class DnsSettingsRequest(Request, frozen=True, kw_only=True):
    """The body of PUT /api/dns/settings. An absent or null list is empty."""

    disabled_management_groups: Annotated[
        tuple[str, ...] | None, about("Hosts in any of these groups keep their DNS as it is.", ["d0fsqhs3r4mc73a1b2c0"])
    ] = None


def update_dns_settings(state: AccountState, request: DnsSettingsRequest, context: Context) -> Decision[DnsSettings]:
    """They become what the request says. Raises Invalid."""
    old = state.dns_settings
    wanted = unique(request.disabled_management_groups)
    existing_groups(state, wanted, "disabled_management_groups")
    before = old.disabled_management_groups
    activities = [
        *_activities(state, "add", (group for group in wanted if group not in before)),
        *_activities(state, "delete", (group for group in before if group not in wanted)),
    ]
    if not activities:
        return unchanged(old)
    new = DnsSettings(id=old.id, disabled_management_groups=wanted)
    return changed(context, state.account.id, new, activities, upserts=[new])


def _activities(state: AccountState, what: str, groups: Iterable[str]) -> list[Activity]:
    return [
        Activity(
            code=f"dns.setting.disabled.management.group.{what}",
            target_id=state.account.id,
            meta={"group": state.groups[id].name, "group_id": id},
        )
        for id in groups
    ]
