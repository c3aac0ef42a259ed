"""A host with an agent."""

import msgspec

from shared.events.signals import PeerMeta


class Peer(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="peer"):
    """wireguard_key: base64 public key, unique in the whole installation. bus_key: public nkey, likewise.

    groups: ids of its groups without All, sorted. Membership belongs to the peer, so that one enrolment is
    one small commit. address_v6: "" when the host has no IPv6.
    """

    id: str
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

    def fqdn(self, dns_domain: str) -> str:
        """The name under which the account's other peers find it."""
        return f"{self.dns_label}.{dns_domain}"

    def extra_fqdns(self, dns_domain: str) -> list[str]:
        """The further names that it brought along, in the same domain."""
        return [f"{label}.{dns_domain}" for label in self.extra_dns_labels]
