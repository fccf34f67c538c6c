"""The floor: bare uvicorn that answers after the same fixed time, with nothing behind it."""

import asyncio
import sys

import uvicorn
from benchmarks.gateway.mock_upstream import ANSWER
from starlette.types import Receive, Scope, Send

_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, wait, answer."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(float(sys.argv[2]) / 1000)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error", lifespan="off")
