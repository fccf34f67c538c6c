"""Make `api_pb2*` from `api.proto`: `python -m cairn.server.grpc.generate` (needs the extra `test`)."""

import sys
from pathlib import Path

NAMES = ("api_pb2.py", "api_pb2.pyi", "api_pb2_grpc.py")
_PROTO = Path(__file__).with_name("api.proto")
_PLACE = Path("cairn", "server", "grpc")


def generate(folder: Path) -> None:
    """Write the generated modules below a folder that is the root of imports."""
    from grpc_tools import protoc  # noqa: PLC0415 - only for those who change the proto file

    root = _PROTO.parents[len(_PLACE.parts)]
    outs = [f"--{kind}={folder}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    include = Path(protoc.__file__).parent / "_proto"
    status = protoc.main(["protoc", f"-I{root}", f"-I{include}", *outs, str(_PROTO)])
    assert status == 0, f"protoc ends with {status}"


if __name__ == "__main__":
    generate(_PROTO.parents[len(_PLACE.parts)])
    sys.exit(0)
