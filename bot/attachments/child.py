"""The process that reads one file: the request on its standard input, what was read on its standard output.

It has limits of its own, so that it ends even when the process that began it was killed meanwhile.
"""

import json
import logging
import os
import sys
from contextlib import suppress
from dataclasses import asdict

from bot.attachments.reading import read_attachment

MOST_MEMORY = 2**29
MOST_SECONDS = 30
"""Of the processor's time."""


def main() -> None:
    _limit()
    logging.disable()  # what the libraries say of broken files
    request = json.loads(sys.stdin.buffer.readline())
    read = read_attachment(request["name"], request["media_type"], sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(asdict(read)))


def _limit() -> None:
    """Where the system has such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for limit, value in (
        (resource.RLIMIT_AS, MOST_MEMORY),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))
    os.nice(10)


if __name__ == "__main__":
    main()
