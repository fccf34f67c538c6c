"""`cairn artifact`: look at what was made, name it, check it, carry it, throw it out."""

import getpass
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.output import JSON_OPTION, human_bytes, human_time, print_json, print_table
from cairn.core.digests import short
from cairn.core.errors import CairnError, ConflictError

if TYPE_CHECKING:
    from types import EllipsisType

    from cairn.registry import Artifact, Lineage, Registry

app = typer.Typer(
    no_args_is_help=True, help="Everything made here: list, show, verify, name, export, remove."
)

REF = typer.Argument(
    metavar="REF", help="A name (assistant, assistant:production) or 8 or more digits of a digest."
)


@app.command("ls")
def list_artifacts(
    kind: str = typer.Option("", help="Only this kind, such as model or dataset."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List artifacts, newest first."""
    with open_registry() as registry:
        artifacts, names = registry.artifacts(kind or None), names_by_digest(registry)
    if as_json:
        return print_json([_summary(artifact, names) for artifact in artifacts])
    rows = [
        {
            "digest": short(artifact.digest),
            "kind": artifact.kind,
            "names": ", ".join(names.get(artifact.digest, ())),
            "size": human_bytes(artifact.size),
            "created": human_time(artifact.created_at),
        }
        for artifact in artifacts
    ]
    empty = (
        f"No artifact of kind {kind!r}."
        if kind
        else "No artifacts yet. Make one: cairn build recipes/tutorial.toml"
    )
    return print_table(rows, ["digest", "kind", "names", "size", "created"], empty=empty)


@app.command()
def show(ref: str = REF, as_json: bool = JSON_OPTION) -> None:
    """Show files, parents and metadata of one."""
    with open_registry() as registry:
        artifact, names = registry.get(ref), names_by_digest(registry)
    if as_json:
        return print_json(_details(artifact, names))
    lines = {
        "digest": artifact.digest,
        "kind": artifact.kind,
        "names": ", ".join(names.get(artifact.digest, ())) or "-",
        "size": f"{human_bytes(artifact.size)} in {len(artifact.files)} file(s)",
        "created": human_time(artifact.created_at),
        "run": artifact.run_id or "-",
        "parents": ", ".join(short(parent) for parent in artifact.parents) or "-",
        "folder": str(artifact.folder),
    } | {f"metadata.{key}": _plain(value) for key, value in sorted(artifact.metadata.items())}
    width = max(map(len, lines))
    for key, value in lines.items():
        typer.echo(f"{key:<{width}}  {value}")
    typer.echo("")
    rows = [
        {"file": entry.path, "size": human_bytes(entry.size), "sha256": entry.sha256[:12]}
        for entry in artifact.files
    ]
    return print_table(rows, ["file", "size", "sha256"], empty="It has no files.")


@app.command()
def verify(
    refs: list[str] = typer.Argument(None, metavar="REF", help="Names or digests."),
    everything: bool = typer.Option(False, "--all", help="Every artifact, and folders the catalogue lost."),
    repair: bool = typer.Option(
        False, "--repair", help="With --all: take sound lost folders back into the catalogue."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Hash every file against its manifest.

    Ends with 1 when anything is wrong.
    """
    if bool(refs) == everything:
        raise typer.BadParameter("name artifacts, or give --all", param_hint="REF")
    with open_registry() as registry:
        results = [_check(registry, ref) for ref in refs or [a.digest for a in registry.artifacts()]]
        if everything:
            results += [_check_lost(registry, digest, repair=repair) for digest in registry.unregistered()]
    if as_json:
        print_json(results)
    else:
        columns = ["artifact", "result"]
        rows = [{"artifact": short(r["digest"]) or r["ref"], "result": r["result"]} for r in results]
        print_table(rows, columns, empty="No artifacts to verify.")
    if not all(result["ok"] for result in results):
        raise typer.Exit(1)


@app.command()
def lineage(ref: str = REF, as_json: bool = JSON_OPTION) -> None:
    """Show what it was made from, and used in."""
    with open_registry() as registry:
        found, names = registry.lineage(ref), names_by_digest(registry)
    if as_json:
        nodes = [_summary(node, names) for node in found.nodes]
        return print_json(
            {"digest": found.digest, "nodes": nodes, "edges": found.edges, "missing": found.missing}
        )
    for line in _lineage_lines(found, names):
        typer.echo(line)
    return None


@app.command()
def alias(
    name: str = typer.Argument(
        "", metavar="NAME[:ALIAS]", help="The name; the alias is `latest` if not given."
    ),
    ref: str = typer.Argument("", metavar="REF", help="The artifact it shall point to."),
    expect: str = typer.Option(
        "", metavar="REF", help="Move only if it points here now; `none`: only if new."
    ),
    history: bool = typer.Option(False, "--history", help="Show every move."),
    remove: bool = typer.Option(False, "--remove", help="Remove the alias; its history stays."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List names, or point one to an artifact.

    For example: cairn artifact alias assistant:production 1f3a9c02
    """
    base, _, variant = name.partition(":")
    if ((ref or history or remove) and not name) or sum((bool(ref), history, remove)) > 1:
        raise typer.BadParameter("give a NAME, and one of REF, --history and --remove")
    with open_registry() as registry:
        if history:
            _print_history(registry, base, variant or "latest", as_json=as_json)
        elif remove:
            registry.remove_alias(base, variant or "latest", actor=local_actor())
            typer.echo(f"removed {base}:{variant or 'latest'}", err=True)
        elif ref:
            moved = registry.set_alias(
                base,
                registry.get(ref).digest,
                alias=variant or "latest",
                actor=local_actor(),
                expected=_expected(registry, expect),
            )
            typer.echo(f"{moved.full_name} points to {short(moved.digest)}", err=True)
        else:
            _print_aliases(registry, base, variant, as_json=as_json)


@app.command()
def gc(
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would go."),
    grace_hours: float = typer.Option(1.0, min=0, help="Spare what was made or used in the last hours."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Remove what nothing needs any more.

    Kept are named artifacts, inputs of running runs, recent ones, and all ancestors of these.
    """
    with open_registry() as registry:
        gone = registry.gc(dry_run, grace_seconds=grace_hours * 3600, actor=local_actor())
    if as_json:
        return print_json([_summary(artifact, {}) for artifact in gone])
    rows = [
        {
            "digest": short(a.digest),
            "kind": a.kind,
            "size": human_bytes(a.size),
            "created": human_time(a.created_at),
        }
        for a in gone
    ]
    print_table(rows, ["digest", "kind", "size", "created"], empty="Nothing to remove.")
    if gone:
        freed = human_bytes(sum(artifact.size for artifact in gone))
        typer.echo(f"{'would free' if dry_run else 'freed'} {freed}", err=True)
    return None


@app.command()
def export(
    ref: str = REF,
    path: Path = typer.Argument(metavar="PATH", help="The .tar file to write, or a folder for it."),
    parents: bool = typer.Option(False, "--parents", help="With every ancestor that is here."),
    force: bool = typer.Option(False, "--force", help="Replace the file if it is there."),
) -> None:
    """Write an artifact to a .tar archive."""
    with open_registry() as registry:
        if path.is_dir():
            path = path / f"{short(registry.get(ref).digest)}.tar"
        if path.exists() and not force:
            raise ConflictError(f"{path} is there already", remedy="choose another file, or add --force")
        artifact = registry.export(ref, path, parents=parents)
    typer.echo(f"{short(artifact.digest)} is in {path} ({human_bytes(path.stat().st_size)})", err=True)


@app.command("import")
def import_archive(
    path: Path = typer.Argument(metavar="PATH", help="A .tar archive that `cairn artifact export` wrote."),
    name: str = typer.Option("", metavar="NAME[:ALIAS]", help="Name it at once."),
) -> None:
    """Bring in an archive, every byte checked."""
    base, _, variant = name.partition(":")
    with open_registry() as registry:
        artifact = registry.import_archive(path, actor=local_actor())
        if name:
            registry.set_alias(base, artifact.digest, alias=variant or "latest", actor=local_actor())
    typer.echo(f"{short(artifact.digest)} ({artifact.kind}, {human_bytes(artifact.size)}) is here", err=True)


@app.command("rm")
def remove(
    refs: list[str] = typer.Argument(metavar="REF", help="Names or digests."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
) -> None:
    """Remove artifacts that nothing needs.

    Refused while a name, a child or a running run needs one.
    """
    with open_registry() as registry:
        for ref in refs:
            artifact = registry.find(ref)
            what = f"{short(artifact.digest)} ({artifact.kind}, {human_bytes(artifact.size)})"
            if not yes and not sys.stdin.isatty():
                raise typer.BadParameter("nobody is there to ask: add --yes", param_hint="--yes")
            if yes or typer.confirm(f"Remove {what} for good?", err=True):
                registry.remove(artifact.digest, actor=local_actor())
                typer.echo(f"removed {what}", err=True)


def open_registry() -> "Registry":
    """The registry that the `CAIRN_*` variables name."""
    from cairn.registry import Registry

    return Registry.open()


def local_actor() -> str:
    """Who typed the command, for the audit log."""
    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError):  # a container whose user has no name
        return "local"


def names_by_digest(registry: "Registry") -> dict[str, list[str]]:
    """`name:alias` of every named artifact."""
    names: dict[str, list[str]] = {}
    for each in registry.aliases():
        names.setdefault(each.digest, []).append(each.full_name)
    return names


def _summary(artifact: "Artifact", names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        "digest": artifact.digest,
        "kind": artifact.kind,
        "names": list(names.get(artifact.digest, ())),
        "created_at": artifact.created_at,
        "size": artifact.size,
        "metadata": artifact.metadata,
    }


def _details(artifact: "Artifact", names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    files = [{"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in artifact.files]
    return _summary(artifact, names) | {
        "run_id": artifact.run_id,
        "parents": list(artifact.parents),
        "folder": str(artifact.folder),
        "files": files,
    }


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check(registry: "Registry", ref: str) -> dict[str, Any]:
    digest = ""
    try:
        digest = registry.find(ref).digest
        registry.verify(digest)
    except CairnError as error:
        return {"ref": ref, "digest": digest, "ok": False, "result": error.message}
    return {"ref": ref, "digest": digest, "ok": True, "result": "ok"}


def _check_lost(registry: "Registry", digest: str, *, repair: bool) -> dict[str, Any]:
    try:
        registry.store.verify(digest)
        if repair:
            registry.adopt(digest)
    except CairnError as error:
        return {
            "ref": digest,
            "digest": digest,
            "ok": False,
            "result": f"not in the catalogue; {error.message}",
        }
    result = "taken back into the catalogue" if repair else "sound, but not in the catalogue: add --repair"
    return {"ref": digest, "digest": digest, "ok": repair, "result": result}


def _expected(registry: "Registry", expect: str) -> "str | EllipsisType | None":
    if not expect:
        return ...
    return None if expect == "none" else registry.find(expect).digest


def _print_aliases(registry: "Registry", name: str, variant: str, *, as_json: bool) -> None:
    found = [each for each in registry.aliases(name or None) if variant in ("", each.alias)]
    if as_json:
        return print_json(
            [
                {"name": each.name, "alias": each.alias, "digest": each.digest, "updated_at": each.updated_at}
                for each in found
            ]
        )
    rows = [
        {"name": each.full_name, "digest": short(each.digest), "updated": human_time(each.updated_at)}
        for each in found
    ]
    return print_table(
        rows, ["name", "digest", "updated"], empty="No such name." if name else "No names yet."
    )


def _print_history(registry: "Registry", name: str, variant: str, *, as_json: bool) -> None:
    moves = registry.alias_history(name, variant)
    if as_json:
        return print_json(
            [
                {"previous": m.previous, "digest": m.digest, "actor": m.actor, "moved_at": m.moved_at}
                for m in moves
            ]
        )
    rows = [
        {
            "when": human_time(move.moved_at),
            "from": short(move.previous or "") or "-",
            "to": short(move.digest or "") or "-",
            "by": move.actor,
        }
        for move in moves
    ]
    return print_table(rows, ["when", "from", "to", "by"], empty=f"{name}:{variant} has never been set.")


def _lineage_lines(found: "Lineage", names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    nodes = {node.digest: node for node in found.nodes}

    def label(digest: str) -> str:
        if digest not in nodes:
            return f"{short(digest)} (not in this registry)"
        node = nodes[digest]
        words = [short(digest), node.kind, *names.get(digest, ()), human_time(node.created_at)]
        return "  ".join(words)

    parents: dict[str, list[str]] = {}
    children: dict[str, list[str]] = {}
    for parent, child in found.edges:
        parents.setdefault(child, []).append(parent)
        children.setdefault(parent, []).append(child)
    yield label(found.digest)
    for title, steps in (("made from", parents), ("used in", children)):
        yield f"{title}:" if steps.get(found.digest) else f"{title}: nothing"
        for indent, digest, is_repeated in _tree(found.digest, steps):
            yield f"{indent}{label(digest)}{'  (see above)' if is_repeated else ''}"


def _tree(root: str, steps: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, bool]]:
    """(indent, digest, is_repeated) of everything below `root`, depth first; a node's own steps come once."""
    seen: set[str] = set()
    todo = [("", root)]
    while todo:
        indent, digest = todo.pop()
        is_repeated = digest in seen
        if indent:
            yield indent, digest, is_repeated
        if is_repeated:
            continue
        seen.add(digest)
        below = list(steps.get(digest, ()))
        stem = indent.replace("├── ", "│   ").replace("└── ", "    ")
        branches = ["├── "] * (len(below) - 1) + ["└── "]
        todo.extend(reversed([(stem + branch, each) for branch, each in zip(branches, below, strict=False)]))
