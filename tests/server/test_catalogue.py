"""Artifacts, lineage, runs with their metrics, receipts, the page itself, the API's description."""

import json
from pathlib import Path

from cairn.registry import BuildStage, Registry, record_stage
from cairn.server.openapi import DEFAULT_PATH, main, openapi_text
from tests.server.conftest import Running


def test_artifacts_and_lineage(server: Running, registry: Registry) -> None:
    client = server.http()
    with registry.create("corpus") as writer:
        (writer.folder / "text.txt").write_text("stones")
    parent = writer.artifact
    with registry.create("model", parents=[parent.digest], metadata={"size": 3}) as writer:
        (writer.folder / "card.md").write_text("# Card")
    registry.set_alias("assistant", writer.artifact.digest)
    listed = client.get("/api/artifacts").json()
    assert {row["kind"] for row in listed} == {"corpus", "model"}
    (model,) = client.get("/api/artifacts", params={"kind": "model"}).json()
    assert model["names"] == ["assistant:latest"]
    assert model["metadata"] == {"size": 3}
    found = client.get(f"/api/artifacts/{model['digest']}").json()
    assert (found["card"], found["parents"], found["run_id"]) == ("# Card", [parent.digest], None)
    assert [file["path"] for file in found["files"]] == ["card.md"]
    graph = client.get(f"/api/artifacts/{model['digest']}/lineage").json()
    assert graph["edges"] == [[parent.digest, model["digest"]]]
    assert {node["digest"] for node in graph["nodes"]} == {parent.digest, model["digest"]}
    assert client.get(f"/api/artifacts/{parent.digest}").json()["card"] == ""
    assert client.get("/api/artifacts/sha256:" + "0" * 64).status_code == 404


def test_runs_and_their_metrics(server: Running, registry: Registry) -> None:
    client = server.http()
    build = registry.start_run(recipe="tutorial")
    stage = registry.start_run(recipe="tutorial", stage="pretrain", parent_id=build.run_id, config={"a": 1})
    path = registry.run_folder(stage.run_id) / "metrics.jsonl"
    assert client.get(f"/api/runs/{stage.run_id}/metrics").json() == {"lines": [], "next": 0}
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    page = client.get(f"/api/runs/{stage.run_id}/metrics").json()
    assert page == {"lines": [{"step": 1}, {"step": 2}], "next": 2}
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    page = client.get(f"/api/runs/{stage.run_id}/metrics", params={"after": 2}).json()
    assert page == {"lines": [{"step": 3}], "next": 3}
    registry.finish_run(stage.run_id, status="failed", error="out of stones")
    found = client.get(f"/api/runs/{build.run_id}").json()
    assert [(child["stage"], child["status"]) for child in found["children"]] == [("pretrain", "failed")]
    assert client.get(f"/api/runs/{stage.run_id}").json()["config"] == {"a": 1}
    assert [run["run_id"] for run in client.get("/api/runs").json()] == [stage.run_id, build.run_id]
    for path_of_nothing in ("/api/runs/run_0", "/api/runs/run_0/metrics", "/api/receipts/rcpt_0"):
        assert client.get(path_of_nothing).status_code == 404


def test_numbers_that_json_cannot_say_and_damaged_lines(server: Running, registry: Registry) -> None:
    run = registry.start_run(recipe="tutorial", stage="pretrain")
    lines = [
        '{"step": 1, "loss": NaN, "grad_norm": [Infinity, 1e999]}',
        "half a li",
        '{"step": 2, "loss": 1.5}',
    ]
    (registry.run_folder(run.run_id) / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    page = server.http().get(f"/api/runs/{run.run_id}/metrics").json()
    first = {"step": 1, "loss": None, "grad_norm": [None, None]}
    assert page == {"lines": [first, {"step": 2, "loss": 1.5}], "next": 3}


def test_a_build_says_what_it_took_from_cache(server: Running, registry: Registry) -> None:
    earlier = registry.start_run(recipe="tutorial", stage="data")
    build = registry.start_run(recipe="tutorial")
    own = registry.start_run(recipe="tutorial", stage="pack", parent_id=build.run_id)
    folder = registry.run_folder(build.run_id)
    digest = "sha256:" + "0" * 64
    for stage, run_id, cached in (("data", earlier.run_id, True), ("pack", own.run_id, False)):
        record_stage(folder, BuildStage(stage=stage, output=digest, cached=cached, run_id=run_id))
    found = server.http().get(f"/api/runs/{build.run_id}").json()
    assert [run["run_id"] for run in found["cached"]] == [earlier.run_id]
    assert [run["run_id"] for run in found["children"]] == [own.run_id]


def test_the_description_is_the_same_every_time() -> None:
    text = openapi_text()
    assert text == openapi_text()
    paths = json.loads(text)["paths"]
    assert "/v1/chat/completions" in paths
    assert "/api/conversations/{conversation_id}/messages" in paths


def test_drift_from_the_description_is_found(tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    assert main(["--check", str(path)]) == 1
    assert main([str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    path.write_text(path.read_text().replace("conversations", "talks"))
    assert main(["--check", str(path)]) == 1


def test_the_pages_types_are_made_from_these_routes() -> None:
    assert main(["--check", str(DEFAULT_PATH)]) == 0
