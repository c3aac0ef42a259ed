"""Other versions read what this one writes, and this one reads what others wrote: messages, streams and files."""

from typing import Any

import msgspec
import pytest

from tests.golden.messages import golden, plain, samples

SAMPLES = dict(samples())
GOLDEN = golden()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_is_written_in_the_form_that_is_known(name: str) -> None:
    written = plain(SAMPLES[name])
    known = GOLDEN.get(name, [])
    assert known, f"{name} is new: `just golden` adds it, commit the file with it"
    assert written == known[-1], (
        f"the form of {name} changed, and hosts and replicas of other versions read it. Add fields at the end of the "
        "struct, with a default; anything else is a struct of another tag. Then `just golden` adds the form, "
        "and the old ones stay readable"
    )


@pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param(name, form, id=f"{name}, form {number}")
        for name, forms in GOLDEN.items()
        for number, form in enumerate(forms, 1)
    ],
)
def test_a_message_that_was_ever_written_is_read(name: str, form: Any) -> None:
    assert name in SAMPLES, f"{name} is gone, but hosts and streams hold it: go on reading it"
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(form), type=type(SAMPLES[name]))
    except msgspec.DecodeError as problem:
        pytest.fail(f"a form of {name} that was written once is not read any more: {problem}")
