"""A ruleset as nft's text, and back from nft's JSON, with a mark that shows whether others changed the table.

Every rule carries a comment "<shape> <skeleton> <number>": the shape it was written with, a digest of the names of all
sets, maps and chains with their policies and numbers of rules, and its place in the chain. A table in which
all of that still holds has the shape it was written with; element texts are compared one by one.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from services.agent.core.kernel import Hook, NftChain, NftMap, NftSet, ObservedRuleset, Ruleset, SetOrMap
from services.agent.drivers.nft_rules import rule_text

ABSENT = ObservedRuleset(shape="", elements={})
NOTHING: Mapping[str, Iterable[str]] = {}


def replace_script(table: str, ruleset: Ruleset, shape: str, contents: Mapping[str, Iterable[str]] = NOTHING) -> str:
    """What makes the table exactly the ruleset, in one transaction. `destroy` would need nft 1.0.7.

    contents: of dynamic sets, name → elements with their timeouts.
    """
    held = {chain.name: len(chain.rules) for chain in ruleset.chains}
    policies = {chain.name: "accept" if chain.hook else "" for chain in ruleset.chains}
    skeleton = _skeleton((one.name for one in ruleset.sets), (one.name for one in ruleset.maps), policies, held)
    mark = f"{shape} {skeleton}"
    blocks = [
        *(_set_block("set", one, one.type, contents.get(one.name, sorted(one.elements))) for one in ruleset.sets),
        *(_set_block("map", one, f"{one.type} : verdict", map(" : ".join, one.elements)) for one in ruleset.maps),
        *(_chain_block(chain, mark) for chain in ruleset.chains),
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
    for item in msgspec.json.decode(listing)["nftables"]:
        ((kind, content),) = item.items()
        if kind == "set":
            sets.append(content["name"])
            if "timeout" not in content.get("flags", ()):
                elements[content["name"]] = frozenset(map(_element, content.get("elem", ())))
        elif kind == "map":
            maps.append(content["name"])
            elements[content["name"]] = frozenset(
                f"{_element(key)} : {_verdict(verdict)}" for key, verdict in content.get("elem", ())
            )
        elif kind == "chain":
            policies[content["name"]] = content.get("policy", "")
            comments[content["name"]] = []
        elif kind == "rule":
            comments[content["chain"]].append(content.get("comment", ""))
        else:
            strange = strange or kind not in ("metainfo", "table")
    held = {chain: len(rules) for chain, rules in comments.items()}
    shape = "" if strange else _shape(comments, _skeleton(sets, maps, policies, held))
    return ObservedRuleset(shape=shape, elements=elements)


def _shape(comments: Mapping[str, list[str]], skeleton: str) -> str:
    """The shape that all rules agree on, "" when one does not or stands at another place."""
    shapes = set()
    for rules in comments.values():
        for number, comment in enumerate(rules):
            shape, _, rest = comment.partition(" ")
            if rest != f"{skeleton} {number}":
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
        flags = "flags timeout\n"
    listed = ", ".join(elements)
    return f"{kind} {one.name} {{\ntype {declared}\n{flags}{f'elements = {{ {listed} }}' if listed else ''}\n}}\n"


def _chain_block(chain: NftChain, mark: str) -> str:
    rules = "".join(f'{rule_text(rule)} comment "{mark} {number}"\n' for number, rule in enumerate(chain.rules))
    return f"chain {chain.name} {{\n{_hook(chain.hook) if chain.hook else ''}\n{rules}}}\n"


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
