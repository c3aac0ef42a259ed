"""What people ask of the lab's control plane before anything flows: hosts that enrol, and a policy between them."""

import time

import msgspec

from deploy.lab.lab import Lab, LabFailed

ENROL_LIMIT_S = 15.0
ENROL_POLL_S = 0.05


class Enrolled(msgspec.Struct, frozen=True):
    """A host as management knows it. v6 is "" when it has none. took_s: from its start until it was connected."""

    id: str
    v4: str
    v6: str
    took_s: float


def group(lab: Lab, name: str) -> str:
    """The id of a new group."""
    return str(lab.api("POST", "/groups", {"name": name})["id"])


def enrol(lab: Lab, host: str, group_id: str) -> Enrolled:
    """Start a host's agent with a setup key of its own, and come back when it is connected; raises LabFailed."""
    wanted = {"name": host, "type": "one-off", "expires_in": 86400, "usage_limit": 1, "auto_groups": [group_id]}
    key = lab.api("POST", "/setup-keys", wanted)
    begin = time.perf_counter()
    lab.start_agent(host, key["key"])
    while time.perf_counter() < begin + ENROL_LIMIT_S and lab.processes.alive(host):
        for peer in lab.api("GET", "/peers"):
            if peer["hostname"] == host and peer["connected"]:
                return Enrolled(peer["id"], peer["ip"], peer.get("ipv6", ""), time.perf_counter() - begin)
        time.sleep(ENROL_POLL_S)
    raise LabFailed(f"{host} did not enrol within {ENROL_LIMIT_S:g} s: see {lab.processes.log(host)}")


def only_policy(lab: Lab, sources: str, destinations: str) -> str:
    """Connect two groups for ICMP alone, and nothing else with anything; gives the policy's id."""
    for policy in lab.api("GET", "/policies"):
        if policy["name"] == "Default":
            lab.api("DELETE", f"/policies/{policy['id']}")
    rule = {
        "name": "clients to gateways",
        "description": "",
        "enabled": True,
        "action": "accept",
        "bidirectional": True,
        "protocol": "icmp",
        "sources": [sources],
        "destinations": [destinations],
    }
    policy = {"name": "lab", "description": "", "enabled": True, "rules": [rule]}
    return str(lab.api("POST", "/policies", policy)["id"])
