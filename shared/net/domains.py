"""Domain names as routes use them: IDNA ASCII in lower case, a wildcard at most as the leftmost label."""

import re

import idna

MAX_BYTES = 253
"""Longest name in text form, without the trailing dot (RFC 1035 §2.3.4: 255 octets on the wire)."""

_WILDCARD = "*."
# A label may start with an underscore (service names), but not the last one; none may end with one or with a hyphen.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_LAST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")


class BadDomain(ValueError):
    """Correct the name: `text` is what was read, the message says what is wrong with it."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{text[:80]!r} is not a valid domain: {problem}")
        self.text = text


def parse_domain(text: str) -> str:
    """The name as the DNS knows it: "Bücher.example" → "xn--bcher-kva.example"; a leading "*." stays.

    Letters, digits, "-" and "_" in labels of at most 63 bytes; a single label and a numeric last label are names too;
    a trailing dot is not allowed. At most MAX_BYTES in all (decision R8). Raises BadDomain.
    """
    if len(text) > MAX_BYTES:
        raise BadDomain(text, f"it has {len(text)} characters, {MAX_BYTES} are allowed")
    wildcard = text.startswith(_WILDCARD)
    labels = [_ascii(label, text) for label in _mapped(text.removeprefix(_WILDCARD)).split(".")]
    if not all(map(_LABEL.match, labels)) or not _LAST_LABEL.match(labels[-1]):
        raise BadDomain(text, "use labels of 1 to 63 letters, digits, '-' or '_', separated by dots")
    name = (_WILDCARD if wildcard else "") + ".".join(labels)
    if len(name) > MAX_BYTES:
        raise BadDomain(text, f"it has {len(name)} bytes, {MAX_BYTES} are allowed")
    return name


def parse_name(text: str) -> str:
    """As `parse_domain`, for one name that is no wildcard; a trailing dot is left out. Raises BadDomain."""
    if is_wildcard(text):
        raise BadDomain(text, "a wildcard cannot stand here")
    return parse_domain(text.removesuffix("."))


def is_within(name: str, domain: str) -> bool:
    """Whether the name is the domain or lies below it."""
    return name == domain or name.endswith(f".{domain}")


def is_wildcard(domain: str) -> bool:
    return domain.startswith(_WILDCARD)


def to_unicode(domain: str) -> str:
    """The name as people write it; labels that stand for nothing printable stay as they are."""
    return ".".join(map(_unicode, domain.split(".")))


def _mapped(text: str) -> str:
    """UTS 46: one spelling for what looks alike (case, width, composed letters, ideographic full stops)."""
    if text.isascii():
        return text.lower()
    try:
        return idna.uts46_remap(text, std3_rules=False, transitional=False)
    except idna.IDNAError:
        raise BadDomain(text, "it holds characters that names cannot have") from None


def _ascii(label: str, text: str) -> str:
    if label.isascii():
        return label
    try:
        return idna.alabel(label).decode()
    except idna.IDNAError:
        raise BadDomain(text, "it holds characters that names cannot have") from None


def _unicode(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return idna.ulabel(label)
    except idna.IDNAError:
        return label
