"""DNS settings: who configures DNS without us."""

from typing import Annotated

import msgspec
from litestar import Response, get, put
from litestar.di import NamedDependency

from services.management.api.call import Call, resource
from services.management.api.wire import example
from services.management.core.commands import dnssettings as commands


class DnsSettingsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """disabled_management_groups: hosts in any of these groups keep their DNS as it is."""

    disabled_management_groups: list[str]


DNS_SETTINGS = example({"disabled_management_groups": ["d0fsqhs3r4mc73a1b2d0"]})


@get("/settings")
async def get_dns_settings(call: NamedDependency[Call]) -> Response[DnsSettingsResponse]:
    """The DNS settings of the account."""
    return _shown(call)


@put("/settings")
async def update_dns_settings(
    call: NamedDependency[Call], data: Annotated[commands.DnsSettingsRequest, DNS_SETTINGS]
) -> Response[DnsSettingsResponse]:
    """Replace the DNS settings of the account."""
    await call.commit(lambda state, context: commands.update_dns_settings(state, data, context))
    return _shown(call)


def _shown(call: Call) -> Response[DnsSettingsResponse]:
    settings = call.state.dns_settings
    return call.answer(DnsSettingsResponse(disabled_management_groups=list(settings.disabled_management_groups)))


router = resource("dns", get_dns_settings, update_dns_settings)
