"""The map of the components is the one that the imports draw."""

from deploy.docs import components


def test_the_map_is_up_to_date() -> None:
    assert components.FILE.read_text() == components.document(), "the imports changed: `just docs` draws the map anew"
