"""Low-rank adapters in memory: loaded and unloaded while the engine runs, bounded in bytes.

A runner reads an adapter; this set keeps what it read, by id. Nothing here waits for a step and no step
waits for this: loading happens in the caller's thread, and a request under way holds its adapter, so that one
that is unloaded, or makes room for another, answers what it has begun and its memory goes with the last
such request. Of those that nobody holds, the longest unused leaves first when room is needed; if those in
use fill the room, a load is refused.

Ids are the caller's; what keeps one adapter's keys and values from another's requests is its `digest`.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cairn.core.errors import ConfigError, NotFoundError, OverloadedError

_RETRY_SECONDS = 5.0


class Adapter(Protocol):
    """An adapter as its runner computes it."""

    @property
    def num_bytes(self) -> int: ...

    @property
    def digest(self) -> str:
        """Of what it was read from: equal digests give equal answers."""
        ...


@dataclass(slots=True, eq=False)
class LoadedAdapter:
    """An adapter in the set, or one that has left it and is still held."""

    adapter: Adapter
    num_holders: int = 0
    is_in_set: bool = True


class AdapterSet:
    """The adapters of one engine; every method may be called from any thread."""

    def __init__(self, read: Callable[[Path], Adapter], max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._read = read
        self._loaded: OrderedDict[str, LoadedAdapter] = OrderedDict()  # the longest unused first
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def __contains__(self, adapter_id: str) -> bool:
        return adapter_id in self._loaded

    @property
    def num_bytes(self) -> int:
        """Memory of all that are loaded or still held."""
        return self._num_bytes

    @property
    def idle_bytes(self) -> int:
        """What `trim` could free."""
        with self._lock:
            return sum(self._loaded[name].adapter.num_bytes for name in self._idle())

    def loaded(self) -> dict[str, LoadedAdapter]:
        """What is in the set, the longest unused first."""
        with self._lock:
            return dict(self._loaded)

    def load(self, adapter_id: str, folder: Path, admit: Callable[[int], None] | None = None) -> None:
        """Read the adapter of a folder; one that is loaded already stays as it is.

        `admit` is told its bytes before it stays, and refuses them by an error.
        """
        # One at a time, or several callers would read the same files.
        with self._loading:
            if adapter_id in self:
                return
            adapter = self._read(folder)
            with self._lock:
                self._make_room(adapter.num_bytes)
            if admit is not None:
                admit(adapter.num_bytes)
            with self._lock:
                self._loaded[adapter_id] = LoadedAdapter(adapter)
                self._num_bytes += adapter.num_bytes

    def trim(self, num_bytes: int) -> int:
        """Let the longest unused go that nobody holds, until so many bytes are free; how many that made."""
        with self._lock:
            before = self._num_bytes
            for name in self._idle():
                if before - self._num_bytes < num_bytes:
                    self._drop(name)
            return before - self._num_bytes

    def unload(self, adapter_id: str) -> None:
        """Take it from new requests; those under way keep it to their end."""
        with self._lock:
            if adapter_id not in self._loaded:
                raise NotFoundError(f"the adapter {adapter_id} is not loaded", remedy="nothing is to be done")
            self._drop(adapter_id)

    def hold(self, adapter_id: str) -> LoadedAdapter | None:
        """Keep it until `release`; None when it is not loaded."""
        with self._lock:
            held = self._loaded.get(adapter_id)
            if held is not None:
                self._loaded.move_to_end(adapter_id)
                held.num_holders += 1
            return held

    def release(self, held: LoadedAdapter) -> None:
        """The end of one `hold`."""
        with self._lock:
            assert held.num_holders > 0, "released more often than held"
            held.num_holders -= 1
            if not held.num_holders and not held.is_in_set:
                self._num_bytes -= held.adapter.num_bytes

    def _make_room(self, num_bytes: int) -> None:
        if num_bytes > self.max_bytes:
            raise ConfigError(
                f"the adapter takes {num_bytes} bytes, allowed for all together: {self.max_bytes}",
                remedy="raise adapter_bytes",
            )
        idle = self._idle()
        free = self.max_bytes - self._num_bytes
        if free + sum(self._loaded[name].adapter.num_bytes for name in idle) < num_bytes:
            raise OverloadedError(
                f"adapters in use take {self._num_bytes} bytes, no room for another of {num_bytes}",
                remedy="try again when their requests have ended, or raise adapter_bytes",
                retry_after=_RETRY_SECONDS,
            )
        for name in idle:
            if self.max_bytes - self._num_bytes < num_bytes:
                self._drop(name)

    def _idle(self) -> list[str]:
        return [name for name, loaded in self._loaded.items() if not loaded.num_holders]

    def _drop(self, adapter_id: str) -> None:
        loaded = self._loaded.pop(adapter_id)
        loaded.is_in_set = False
        if not loaded.num_holders:
            self._num_bytes -= loaded.adapter.num_bytes
