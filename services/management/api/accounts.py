"""The account itself."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, known, permitted, resource
from services.management.api.permissions import MODULES
from services.management.api.wire import Id, example, moment
from services.management.core.commands import accountsettings as commands
from services.management.core.model.account import Account
from services.management.core.model.upstreams import Upstream


class AccountSettingsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds."""

    peer_login_expiration_enabled: bool
    peer_login_expiration: int
    peer_inactivity_expiration_enabled: bool
    peer_inactivity_expiration: int
    groups_propagation_enabled: bool
    regular_users_view_blocked: bool
    routing_peer_dns_resolution_enabled: bool
    resolver_nameservers: list[Upstream]
    dns_domain: str
    network_range: str
    network_range_v6: str


class AccountResponse(msgspec.Struct, frozen=True, kw_only=True):
    id: Id
    settings: AccountSettingsResponse
    domain: str
    domain_category: str
    created_at: datetime
    created_by: str


ACCOUNT = example({"settings": {"routing_peer_dns_resolution_enabled": True, "dns_domain": "whimbrel.internal"}})


@get("/", guards=[permitted("accounts")])
async def list_accounts(call: NamedDependency[Call]) -> Response[list[AccountResponse]]:
    """The caller's account, in a list of one."""
    return call.answer([_shown(call.state.account)])


@put(
    "/{id:str}",
    guards=[permitted("settings"), known(lambda state: state.table(Account), "account")],
    tags=[MODULES["settings"].title],
)
async def update_account(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[commands.AccountRequest, ACCOUNT]
) -> Response[AccountResponse]:
    """Change settings of the account; what is absent stays as it is."""
    await call.commit(lambda state, context: commands.update_account(state, data, context))
    return call.answer(_shown(call.state.account))


def _shown(account: Account) -> AccountResponse:
    settings = account.settings
    return AccountResponse(
        id=account.id,
        settings=AccountSettingsResponse(
            peer_login_expiration_enabled=settings.peer_login_expiration_enabled,
            peer_login_expiration=settings.peer_login_expiration_s,
            peer_inactivity_expiration_enabled=settings.peer_inactivity_expiration_enabled,
            peer_inactivity_expiration=settings.peer_inactivity_expiration_s,
            groups_propagation_enabled=settings.groups_propagation_enabled,
            regular_users_view_blocked=settings.regular_users_view_blocked,
            routing_peer_dns_resolution_enabled=settings.routing_peer_dns_resolution_enabled,
            resolver_nameservers=list(settings.resolver_nameservers),
            dns_domain=account.dns_domain,
            network_range=account.network_v4,
            network_range_v6=account.network_v6,
        ),
        domain="",
        domain_category="private",
        created_at=moment(account.created_at),
        created_by="",
    )


router = resource("accounts", list_accounts, update_account, guarded=False)  # settings are a module of their own
