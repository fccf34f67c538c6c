"""`python -m cairn.server.openapi [--check] [PATH]`: write the document that the page's types are made from.

The same routes give the same bytes, so that a difference in version control is a difference in the API.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cairn.server.app import create_api

DEFAULT_PATH = Path(__file__).parents[3] / "web" / "openapi.json"


def openapi_text() -> str:
    """The document as indented JSON, without the version: a release is not a change of the API."""
    document = create_api().openapi()
    document["info"]["version"] = "1"
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the document to the path given, or to `web/openapi.json`; with `--check` only compare."""
    paths = [Path(each) for each in arguments if each != "--check"]
    path = paths[0] if paths else DEFAULT_PATH
    if "--check" not in arguments:
        path.write_text(openapi_text(), encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == openapi_text():
        return 0
    print(f"{path} is not what the routes say; write it: python -m cairn.server.openapi", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
