"""A ruleset as nft's text, and back from nft's JSON, with a mark that shows whether others changed the table.

Every rule carries a comment "<shape> <skeleton> <number> <key>": the shape it was written with, a digest of the names
of all sets, maps and chains with their policies and numbers of rules, its place in the chain, and Rule.key. A table in
which the first three still hold has the shape it was written with; element texts are compared one by one. The key says
which rule a counter belongs to, whatever table stands by now (drivers/nft_counts.py).
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from services.agent.core.kernel import (
    Count,
    Hook,
    NftChain,
    NftMap,
    NftSet,
    ObservedRuleset,
    RuleName,
    Ruleset,
    SetOrMap,
)
from services.agent.drivers.nft_rules import NOTHING_YET, rule_text

ABSENT = ObservedRuleset(shape="", elements={})
NOTHING: Mapping[str, Iterable[str]] = {}
NONE: Mapping[RuleName, Count] = {}


def replace_script(
    table: str,
    ruleset: Ruleset,
    shape: str,
    *,
    contents: Mapping[str, Iterable[str]] = NOTHING,
    counts: Mapping[RuleName, Count] = NONE,
) -> str:
    """What makes the table exactly the ruleset, in one transaction. `destroy` would need nft 1.0.7.

    contents: of dynamic sets, name → elements with their timeouts. counts: where the counters of rules begin.
    """
    held = {chain.name: len(chain.rules) for chain in ruleset.chains}
    policies = {chain.name: "accept" if chain.hook else "" for chain in ruleset.chains}
    skeleton = _skeleton((one.name for one in ruleset.sets), (one.name for one in ruleset.maps), policies, held)
    mark = f"{shape} {skeleton}"
    blocks = [
        *(_set_block("set", one, one.type, contents.get(one.name, sorted(one.elements))) for one in ruleset.sets),
        *(
            _set_block("map", one, f"{one.type} : verdict", map(" : ".join, one.elements.items()))
            for one in ruleset.maps
        ),
        *(_chain_block(chain, mark, counts) for chain in ruleset.chains),
    ]
    return f"{destroy_script(table)}table inet {table} {{\n{''.join(blocks)}}}\n"


def destroy_script(table: str) -> str:
    """What removes the table whether it is there or not."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def change_script(
    table: str, add: Mapping[str, Iterable[str]], remove: Mapping[str, Iterable[str]], anew: Mapping[str, SetOrMap]
) -> str:
    """What empties sets and maps, takes elements out and then puts others in, in one transaction."""
    emptied = "".join(f"flush {kind} inet {table} {name}\n" for name, kind in anew.items())
    return emptied + "".join(
        f"{verb} element inet {table} {name} {{ {', '.join(sorted(elements))} }}\n"
        for verb, change in (("delete", remove), ("add", add))
        for name, elements in change.items()
        if elements
    )


def read_listing(listing: str) -> ObservedRuleset:
    """What nft's JSON listing of the table says; numbers for protocols are expected."""
    elements: dict[str, frozenset[str]] = {}
    sets: list[str] = []
    maps: list[str] = []
    policies: dict[str, str] = {}
    comments: dict[str, list[str]] = {}
    strange = False
    for item in _read_listing(listing).nftables:
        if item.rule:
            comments[item.rule.chain].append(item.rule.comment)
        elif item.set:
            sets.append(item.set.name)
            if "timeout" not in item.set.flags:
                elements[item.set.name] = frozenset(map(_element, item.set.elem))
        elif item.map:
            maps.append(item.map.name)
            elements[item.map.name] = frozenset(
                f"{_element(key)} : {_verdict(verdict)}" for key, verdict in item.map.elem
            )
        elif item.chain:
            policies[item.chain.name] = item.chain.policy
            comments[item.chain.name] = []
        else:
            strange = strange or not (item.metainfo or item.table)
    held = {chain: len(rules) for chain, rules in comments.items()}
    shape = "" if strange else _shape(comments, _skeleton(sets, maps, policies, held))
    return ObservedRuleset(shape=shape, elements=elements)


class _Rule(msgspec.Struct, gc=False):
    chain: str
    comment: str = ""


class _Chain(msgspec.Struct, gc=False):
    name: str
    policy: str = ""


class _Set(msgspec.Struct):
    name: str
    flags: list[str] | str = ""
    elem: list[Any] = []


class _Item(msgspec.Struct):
    """One of these; none when it is of another kind."""

    rule: _Rule | None = None
    set: _Set | None = None
    map: _Set | None = None
    chain: _Chain | None = None
    table: msgspec.Raw = msgspec.Raw()
    metainfo: msgspec.Raw = msgspec.Raw()


class _Listing(msgspec.Struct):
    nftables: list[_Item]


_read_listing = msgspec.json.Decoder(_Listing).decode
"""Skips what rules consist of, which is most of a listing."""


def _shape(comments: Mapping[str, list[str]], skeleton: str) -> str:
    """The shape that all rules agree on, "" when one does not or stands at another place."""
    shapes = set()
    for rules in comments.values():
        for number, comment in enumerate(rules):
            shape, _, rest = comment.partition(" ")
            if rest.rpartition(" ")[0] != f"{skeleton} {number}":
                return ""
            shapes.add(shape)
    return shapes.pop() if len(shapes) == 1 else ""


def _skeleton(sets: Iterable[str], maps: Iterable[str], policies: Mapping[str, str], held: Mapping[str, int]) -> str:
    chains = sorted((name, policy, held[name]) for name, policy in policies.items())
    parts = msgspec.json.encode([sorted(sets), sorted(maps), chains])
    return hashlib.sha256(parts).hexdigest()[:16]


def _set_block(kind: str, one: NftSet | NftMap, declared: str, elements: Iterable[str]) -> str:
    flags = "flags interval\n" if one.interval else ""
    if isinstance(one, NftSet) and one.dynamic:
        flags = f"flags {'interval,' if one.interval else ''}timeout\n"
    listed = ", ".join(elements)
    return f"{kind} {one.name} {{\ntype {declared}\n{flags}{f'elements = {{ {listed} }}' if listed else ''}\n}}\n"


def _chain_block(chain: NftChain, mark: str, counts: Mapping[RuleName, Count]) -> str:
    rules = []
    for number, rule in enumerate(chain.rules):
        key = rule.key
        rules.append(f'{rule_text(rule, counts.get((chain.name, key), NOTHING_YET))} comment "{mark} {number} {key}"\n')
    return f"chain {chain.name} {{\n{_hook(chain.hook) if chain.hook else ''}\n{''.join(rules)}}}\n"


def _hook(hook: Hook) -> str:
    return f"type {hook.type} hook {hook.at} priority {hook.priority}; policy accept;"


def _element(value: Any) -> str:
    """Canonical text of a set element as in NftSet.elements."""
    if isinstance(value, str):
        # nft writes ::a.b.c.d where everything else writes hex.
        return str(ipaddress.ip_address(value)) if "." in value and ":" in value else value
    if isinstance(value, int):
        return str(value)
    ((kind, content),) = value.items()
    if kind == "prefix":
        return f"{_element(content['addr'])}/{content['len']}"
    if kind == "range":
        return "-".join(map(_element, content))
    if kind == "concat":
        return " . ".join(map(_element, content))
    return _element(content["val"])  # an element with a comment, a timeout or a counter


def _verdict(value: Mapping[str, Any]) -> str:
    ((verdict, content),) = value.items()
    return f"{verdict} {content['target']}" if content else verdict
