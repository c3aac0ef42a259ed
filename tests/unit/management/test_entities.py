"""What kinds of entities there are, and what each says of itself."""

from typing import Any, get_args

import msgspec
import pytest

from services.management.core import references
from services.management.core.entities import KINDS, Entity, Ref, ref
from services.management.core.model.commit import Commit
from services.management.core.model.policy import ResourceRef
from services.management.core.model.user import AccessToken
from tests.builders import (
    account,
    commit,
    dns_settings,
    group,
    nameserver_group,
    peer,
    policy,
    route,
    rule,
    setup_key,
    state,
    user,
    zone,
    zone_record,
)

TOKEN = AccessToken(id="t", user_id="u", name="t", token_hash="hash", created_at=0.0)
ONE_OF_EACH = (
    account(),
    group("g"),
    peer("p"),
    route("r"),
    policy("q"),
    nameserver_group("n"),
    dns_settings(),
    zone("z.test"),
    zone_record("z.test", "a.z.test"),
    setup_key("k"),
    user("u"),
    TOKEN,
)


@pytest.mark.parametrize("kind", get_args(Entity), ids=lambda kind: kind.__name__)
def test_a_kind_is_named_in_the_log_as_in_references_to_it(kind: Any) -> None:
    (one,) = (entity for entity in ONE_OF_EACH if type(entity) is kind)
    assert msgspec.to_builtins(one)["kind"] == ref(one).kind


def test_the_kinds_in_the_log_stay_what_they_are() -> None:
    kinds = {"account", "group", "peer", "route", "policy", "nameserver-group", "dns-settings"}
    kinds |= {"zone", "zone-record", "setup-key", "user", "access-token"}
    assert set(KINDS.values()) == kinds
    assert {ref(one).kind for one in ONE_OF_EACH} == kinds


def test_a_commit_that_deletes_what_no_version_of_ours_knows_is_undecodable() -> None:
    data = msgspec.msgpack.encode(commit(deletes=[Ref("group", "x")])).replace(b"group", b"froup")
    with pytest.raises(msgspec.ValidationError, match="no entities of kind froup"):
        msgspec.msgpack.decode(data, type=Commit)


def test_titles_say_kind_and_name() -> None:
    titles = [one.title for one in ONE_OF_EACH]
    assert titles == [
        "account acc", "group g", "peer p", "route r", "policy q", "nameserver group n", "dns settings",
        "zone z.test", "record a.z.test A", "setup key k", "user u", "access token t",
    ]  # fmt: skip


def test_what_refers_to_an_entity_is_found_kind_by_kind() -> None:
    directly = rule("direct", sources=(), destinations=("a",), source_resource=ResourceRef(id="x", type="peer"))
    there = state(
        group("a"),
        group("b"),
        peer("x", "a", setup_key="ci"),
        setup_key("ci", auto_groups=("a",)),
        policy("q", directly),
        route("r", peer="x", groups=("b",)),
        route("s", peer_groups=("a",), groups=("b",), access_control_groups=("a",)),
        nameserver_group("n", groups=("a",)),
        dns_settings("a", "b"),
        user("u", "a"),
    )
    assert references.to(there, there.groups["a"]) == [
        "route s", "policy q", "nameserver group n", "dns settings", "setup key ci", "user u",
    ]  # fmt: skip
    assert references.to(there, there.groups["b"]) == ["route r", "route s", "dns settings"]
    assert references.to(there, there.peers["x"]) == ["route r", "policy q"]
    assert references.to(there, there.setup_keys["ci"]) == ["peer x"]
    assert references.to(there, there.routes["r"]) == []
    assert references.to(there, group("c")) == []
