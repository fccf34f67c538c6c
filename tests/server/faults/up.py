"""`python -m tests.server.faults.up ARGUMENTS`: `cairn up ARGUMENTS` on a clock that can be set wrong.

The file that `SHIFT_FILE` names holds the seconds by which `time.time` and `datetime.now` are off; it is
looked at in every call. Nothing else differs from the command.
"""

import datetime
import os
import sys
import time
from pathlib import Path
from typing import Any

SHIFT_FILE = "TEST_CLOCK_SHIFT"
_now = time.time


def shifted() -> float:
    """The time, as far off as the file says."""
    try:
        return _now() + float(Path(os.environ[SHIFT_FILE]).read_text() or 0)
    except (OSError, ValueError):
        return _now()


class ShiftedDatetime(datetime.datetime):
    """A `datetime` of that clock."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.fromtimestamp(shifted(), tz)


if __name__ == "__main__":
    time.time = shifted
    datetime.datetime = ShiftedDatetime  # type: ignore[misc]
    from cairn.cli import main

    sys.argv = ["cairn", "up", *sys.argv[1:]]
    main()
