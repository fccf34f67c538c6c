"""`python -m cairn.server.openapi [PATH]`: write the OpenAPI document that the page's types are made from.

The same routes give the same bytes, so that a difference in version control is a difference in the API.
"""

import json
import sys
from pathlib import Path

from cairn.server.app import create_api

DEFAULT_PATH = Path(__file__).parents[3] / "web" / "openapi.json"


def openapi_text() -> str:
    """The document as indented JSON, without the version: a release is not a change of the API."""
    document = create_api().openapi()
    document["info"]["version"] = "1"
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the document to the path given, or to `web/openapi.json`."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PATH
    path.write_text(openapi_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
