"""`cairn index`: collections of documents, and what has become of them."""

import typer

from cairn.cli.index import adding, checking, graph, listing, reembedding

app = typer.Typer(no_args_is_help=True, help="Collections of documents: add, sync, watch, check, embed anew.")
app.command()(adding.add)
app.command("sync")(adding.sync_folders)
app.command("watch")(adding.watch_folders)
app.command("ls")(listing.list_collections)
app.command()(listing.rm)
app.command()(listing.stats)
app.command("set")(checking.set_config)
app.command()(checking.queries)
app.command()(checking.check)
app.command()(checking.rebuild)
app.command()(reembedding.reembed)
app.command()(reembedding.switch)
app.command()(reembedding.rollback)
app.command()(graph.graph)
