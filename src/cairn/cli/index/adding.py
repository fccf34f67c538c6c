"""`cairn index add` and `sync`: files and folders into collections."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.index.opening import COLLECTION, chosen, meant, open_library
from cairn.cli.output import JSON_OPTION, print_json
from cairn.core.errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from cairn.providers.knowledge import Library
    from cairn.registry import Registry
    from cairn.retrieval.catalogue import CollectionInfo
    from cairn.retrieval.collection import Collection
    from cairn.retrieval.sync import SyncReport

DEFAULT_COLLECTION = "documents"
_WATCH_SECONDS = 2.0


def add(
    paths: list[Path] = typer.Argument(metavar="PATH...", help="Files, or folders with all that is in them."),
    collection: str = typer.Option(DEFAULT_COLLECTION, help="Where they go; made when it is not there."),
    allow: list[str] = typer.Option(
        [], metavar="LABEL", help="Who may see them: user:NAME, group:NAME or everyone; may be given again."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Put files and folders into a collection.

    A folder is remembered, and `cairn index sync` brings the collection up to it again. Without --allow only
    the administrator sees what is in a new collection.
    """
    from cairn.registry import Registry

    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise NotFoundError(
            f"no such file or folder: {', '.join(missing)}",
            remedy="check the path; a collection is named by --collection",
        )
    with Registry.open() as registry, open_library(registry) as library:
        info = _wanted(registry, collection, allow)
        opened = library.collection(info.collection_id)
        reports = [_sync(library, opened, prefix, folder) for prefix, folder in _keep(registry, info, paths)]
        files = [path for path in paths if path.is_file()]
        if files:
            reports.append(_add_files(library, opened, files, allow))
        opened.index()  # so that the first question need not wait for it
    _tell(info.name, reports, as_json=as_json)


def sync_folders(
    collection: str = COLLECTION,
    watch: bool = typer.Option(False, "--watch", help="Go on until Ctrl-C."),
    empty: bool = typer.Option(False, "--empty", help="Believe that a folder without any file is empty."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Bring collections up to their folders: what is new, changed, moved or gone there."""
    from cairn.registry import Registry
    from cairn.retrieval.catalogue import told_names

    with Registry.open() as registry, open_library(registry) as library:
        kept = [info for info in chosen(registry, collection) if info.config.folders]
        if not kept:
            raise NotFoundError("no folder is kept in a collection", remedy="cairn index add FOLDER")
        if watch:
            return _watch(library, kept, as_json=as_json)
        names = told_names(kept)
        found = {
            names[info.collection_id]: [
                _sync(library, library.collection(info.collection_id), prefix, Path(folder), empty=empty)
                for prefix, folder in info.config.folders.items()
            ]
            for info in kept
        }
    if as_json:
        return print_json({name: _summed(reports) for name, reports in found.items()})
    for name, reports in found.items():
        _tell(name, reports, as_json=False)
    return None


def watch_folders(
    folders: list[Path] = typer.Argument(metavar="FOLDER...", help="Folders with all that is in them."),
    collection: str = typer.Option(DEFAULT_COLLECTION, help="Where they go; made when it is not there."),
    allow: list[str] = typer.Option(
        [], metavar="LABEL", help="Who may see them: user:NAME, group:NAME or everyone; may be given again."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Keep folders in a collection, and bring it up to them whenever they change, until Ctrl-C."""
    from cairn.registry import Registry

    missing = [str(path) for path in folders if not path.is_dir()]
    if missing:
        raise NotFoundError(f"no such folder: {', '.join(missing)}", remedy="check the path, or mount it")
    with Registry.open() as registry, open_library(registry) as library:
        info = _wanted(registry, collection, allow)
        wanted = dict(_keep(registry, info, folders))
        _watch(library, [info], only=wanted, as_json=as_json)


def _watch(
    library: "Library",
    collections: "Sequence[CollectionInfo]",
    *,
    only: dict[str, Path] | None = None,
    as_json: bool,
) -> None:
    """Watch the folders of collections, or `only` some, until somebody interrupts."""
    from cairn.core.progress import console_progress
    from cairn.retrieval.watching import FolderWatch

    watches = [
        (
            info.name,
            FolderWatch(
                partial(library.collection, info.collection_id),
                Path(folder),
                parsers=library.parsers,
                prefix=prefix,
                progress=console_progress(),
            ),
        )
        for info in collections
        for prefix, folder in (info.config.folders if only is None else only).items()
    ]
    typer.echo(f"watching {len(watches)} folder{'s' * (len(watches) > 1)}; Ctrl-C ends it", err=True)
    try:
        while True:
            for name, each in watches:
                report = each.step()
                if report is not None and (report.failed or not report.is_empty):
                    _tell(name, [report], as_json=as_json, is_final=False)
            time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


def _wanted(registry: "Registry", name: str, allow: Sequence[str]) -> "CollectionInfo":
    """The collection of a name, made when it is not there; labels that are given become its own."""
    from cairn.retrieval.catalogue import change_collection, create_collection
    from cairn.server.identity import ADMIN

    try:
        info = meant(registry, name)
    except NotFoundError:
        return create_collection(registry, name, owner=ADMIN, labels=allow or None)
    return change_collection(registry, info.collection_id, labels=allow) if allow else info


def _keep(registry: "Registry", info: "CollectionInfo", paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Folders among the paths with what their documents' names begin with, which the collection remembers."""
    from cairn.retrieval.catalogue import change_collection

    folders = dict(info.config.folders)
    kept = []
    for path in (path.resolve() for path in paths if path.is_dir()):
        prefix = next((prefix for prefix, folder in folders.items() if folder == str(path)), "")
        number = 1
        while not prefix:
            candidate = (path.name or "root") + (f"-{number}" if number > 1 else "")
            prefix = candidate if candidate not in folders else ""
            number += 1
        folders[prefix] = str(path)
        kept.append((prefix, path))
    if folders != info.config.folders:
        change_collection(registry, info.collection_id, config={"folders": folders})
    return kept


def _sync(
    library: "Library", collection: "Collection", prefix: str, folder: Path, *, empty: bool = False
) -> "SyncReport":
    from cairn.core.progress import console_progress
    from cairn.retrieval.sync import sync

    return sync(
        collection,
        folder,
        parsers=library.parsers,
        prefix=prefix,
        progress=console_progress(),
        may_be_empty=empty,
    )


def _add_files(
    library: "Library", collection: "Collection", files: Sequence[Path], allow: Sequence[str]
) -> "SyncReport":
    """Single files go by their name alone."""
    from cairn.core.progress import console_progress
    from cairn.retrieval.ingest import IncomingFile, ingest
    from cairn.retrieval.sync import SyncReport

    names = [path.name for path in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequestError(
            f"two of the files are called {twice}", remedy="add the folder they are in, or rename one"
        )
    before = {each.source for each in collection.documents(None)}
    incoming = [
        IncomingFile(path=path, source=path.name, labels=tuple(allow) or None, size=path.stat().st_size)
        for path in files
    ]
    total = sum(file.size for file in incoming)
    done = ingest(
        collection, incoming, parsers=library.parsers, progress=console_progress(), total_bytes=total
    )
    report = SyncReport(failed=done.failed)
    report.num_skipped_pages = sum(len(info.skipped_pages) for info in done.put)
    for info in done.put:
        (report.replaced if info.source in before else report.added).append(info.source)
    return report


def _summed(reports: "Sequence[SyncReport]") -> dict[str, Any]:
    """Several reports as one."""
    total: dict[str, Any] = {}
    for report in map(asdict, reports):
        for name, value in report.items():
            before = total.get(name, type(value)())
            total[name] = before | value if isinstance(value, dict) else before + value
    return total


def _tell(name: str, reports: "Sequence[SyncReport]", *, as_json: bool, is_final: bool = True) -> None:
    """What happened, on stderr; exit code 1 when a file could not be read at all."""
    total = _summed(reports)
    if as_json:
        print_json({"collection": name, **total})
    else:
        counts = {
            word: len(total[word])
            for word in ("added", "replaced", "moved", "removed", "relabelled", "failed")
        }
        said = [f"{count} {word}" for word, count in counts.items() if count]
        if total["num_unchanged"]:
            said.append(f"{total['num_unchanged']} unchanged")
        typer.echo(f"{name}: {', '.join(said) or 'nothing to do'}", err=True)
        for what, why in {**total["failed"], **total["access_problems"]}.items():
            typer.echo(f"  {what}: {why}", err=True)
        if num := total["num_skipped_pages"]:
            pages = f"{num} page{'s' * (num > 1)} could not be read, so not indexed"
            typer.echo(f"  {pages}; which and why: cairn index stats {name}", err=True)
    if is_final and total["failed"]:
        raise typer.Exit(1)
