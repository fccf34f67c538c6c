"""`python -m tests.server.batches.server_process HOME`: a server over a scripted model that may be killed.

Prints its port. Whoever starts it has made the home and a key.
"""

import sys
from pathlib import Path

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.config import ServerConfig
from cairn.server.identity import Identity
from cairn.server.serving import listen, make_server
from cairn.server.state import ServerState
from tests.providers.scripted import Scripted
from tests.server.conftest import REPLY, ScriptedModels


def main(home: Path) -> None:
    scripted = Scripted(REPLY * 5)
    with Registry.open(Settings(home=home)) as registry:
        scripted.save = registry.save_receipt
        config = ServerConfig(port=0, batch_requests=2, batch_hold_seconds=0.5)
        state = ServerState(
            registry=registry,
            config=config,
            models=ScriptedModels(scripted),
            identity=Identity(registry.database),
        )
        sock = listen(config.host, config.port, write_seconds=config.write_seconds)
        port = sock.getsockname()[1]
        make_server(state, on_started=lambda: print(port, flush=True)).run(sockets=[sock])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
