"""`python -m deploy.health URL`: whether a service of the stack does its work; the images have no curl.

Prints what the service answers, so that `docker inspect` shows it, and ends with 1 unless that is "all well".
"""

import sys
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

WITHIN_S = 4.0
SHOWN_BYTES = 4096


def check(url: str) -> tuple[bool, str]:
    """Whether the page answers with a 2xx, and what it says or why there is no answer."""
    try:
        with urlopen(url, timeout=WITHIN_S) as answer:
            return True, answer.read(SHOWN_BYTES).decode(errors="replace")
    except HTTPError as refusal:
        return False, refusal.read(SHOWN_BYTES).decode(errors="replace")
    except (OSError, HTTPException) as problem:  # URLError is an OSError
        return False, f"{url} does not answer: {problem}"


def main() -> int:
    well, said = check(sys.argv[1])
    print(said.strip())
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
