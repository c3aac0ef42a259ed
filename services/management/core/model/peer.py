"""A host with an agent."""

from collections.abc import Iterable
from typing import Self

import msgspec

from services.management.core.model.entity import EntityBase, Key, References
from services.management.core.model.setupkey import SetupKey
from shared.events.signals import PeerMeta


class Outage(msgspec.Struct, frozen=True, gc=False):
    """It was told to have gone at `at`, in unix seconds, and, if over, to be back since."""

    at: float
    over: bool = False


class Peer(EntityBase, frozen=True, kw_only=True, gc=False, tag="peer"):
    """wireguard_key: base64 public key, unique in the whole installation. bus_key: public nkey, likewise.

    groups: ids of its groups without All, sorted. Membership belongs to the peer, so that one enrolment is
    one small commit. address_v6: "" when the host has no IPv6. draining: people want its clients to leave it (G6).
    outage: the last that the audit trail told of it as a routing peer of an HA set, so that nothing is told twice.
    """

    name: str
    dns_label: str
    wireguard_key: str
    bus_key: str
    address_v4: str
    address_v6: str
    groups: tuple[str, ...]
    meta: PeerMeta
    created_at: float
    last_login: float
    setup_key: str = ""
    user_id: str = ""
    ephemeral: bool = False
    ssh_enabled: bool = False
    login_expiration_enabled: bool = False
    inactivity_expiration_enabled: bool = False
    extra_dns_labels: tuple[str, ...] = ()
    draining: bool = False
    outage: Outage | None = None

    @property
    def title(self) -> str:
        return f"peer {self.name}"

    @property
    def keys(self) -> Iterable[Key]:
        return ("bus", self.bus_key), ("wireguard", self.wireguard_key)

    @classmethod
    def references(cls) -> References[Self]:
        """Its groups are none: a member does not keep a group, it leaves it."""
        return {SetupKey: lambda peer: (peer.setup_key,)}

    @property
    def labels(self) -> tuple[str, ...]:
        """Its own DNS label, then the extra ones."""
        return (self.dns_label, *self.extra_dns_labels)

    def fqdn(self, dns_domain: str) -> str:
        """The name under which the account's other peers find it."""
        return f"{self.dns_label}.{dns_domain}"

    def extra_fqdns(self, dns_domain: str) -> list[str]:
        """The further names that it brought along, in the same domain."""
        return [f"{label}.{dns_domain}" for label in self.extra_dns_labels]
