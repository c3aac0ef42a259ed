"""The account's settings, for everybody."""

from collections.abc import Iterable

from services.management.core.feed.unit import EVERYTHING, FORWARDER_PORT, Copies, Given, Topic, UnitKind
from services.management.core.model.account import Account
from services.management.core.model.dnssettings import DnsSettings
from services.management.core.state import AccountState
from shared.events.documents import SETTINGS_ID, SettingsDoc
from shared.events.subjects import group_audience


def _documents(given: Given, _id: str) -> Copies:
    account = given.state.account
    document = SettingsDoc(
        overlay_v4=account.network_v4,
        overlay_v6=account.network_v6,
        dns_domain=account.dns_domain,
        forwarder_port=given.relations.forwarder_port(),
        routing_peer_dns_resolution=account.settings.routing_peer_dns_resolution_enabled,
        unmanaged_dns=tuple(sorted(given.state.dns_settings.disabled_management_groups)),
    )
    yield group_audience(account.all_group), SETTINGS_ID, document


def _raised(_state: AccountState, old: Account | None, new: Account | None) -> Iterable[Topic]:
    if old and new and (old.dns_domain, old.all_group) == (new.dns_domain, new.all_group):
        return ()
    return (EVERYTHING,)  # every peer's name, or the audiences of every peer


SETTINGS = UnitKind(
    name="settings",
    entity=Account,
    makes=SettingsDoc,
    documents=_documents,
    only_id=SETTINGS_ID,
    parts={DnsSettings: lambda _settings: SETTINGS_ID},
    listens={FORWARDER_PORT.kind: lambda _state, _id: (SETTINGS_ID,)},
    raises=_raised,
)
