"""Who configures DNS without us."""

from typing import Self

from services.management.core.model.entity import EntityBase, References
from services.management.core.model.group import Group

DNS_SETTINGS_ID = "dns"
"""The id of the only DNS settings of an account. One that never had any has none: nothing is disabled."""


class DnsSettings(EntityBase, frozen=True, kw_only=True, gc=False, tag="dns-settings"):
    """disabled_management_groups: hosts in any of them keep their DNS as it is. Ids, in no order."""

    disabled_management_groups: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return "dns settings"

    @classmethod
    def references(cls) -> References[Self]:
        return {Group: lambda settings: settings.disabled_management_groups}
