"""Which texts are WireGuard public keys."""

import base64

import pytest

from shared.net.wireguard import is_public_key


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


GENERATED = "jXHnAIQm7ObfL26m7iuqwaVfp0pSQxKqZCxRmmrQPSk="


@pytest.mark.parametrize("key", [GENERATED, text(bytes((9,)) + bytes(31))])
def test_a_key_is_32_bytes_in_base64(key: str) -> None:
    assert is_public_key(key)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "key",
        GENERATED[:-1],
        GENERATED + "\n",
        GENERATED[:-2] + "l=",
        text(bytes((9,)) * 31),
        text(bytes((9,)) * 33),
    ],
)
def test_anything_else_is_none(wrong: str) -> None:
    assert not is_public_key(wrong)


@pytest.mark.parametrize(
    "point",
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ],
)
def test_a_point_of_small_order_is_no_key(point: str) -> None:
    assert not is_public_key(text(bytes.fromhex(point)))
