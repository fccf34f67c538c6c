import { expect, test } from "vitest";
import type { RunDetail, RunEntry } from "../../api/types";
import { stagesOf } from "./stages";

function run(run_id: string, stage: string, started_at: number): RunEntry {
  return {
    run_id,
    recipe: "tale",
    stage,
    status: "succeeded",
    started_at,
    finished_at: started_at + 1,
    output: `sha256:${run_id}`,
    error: "",
    parent_id: stage ? "build" : null,
  };
}

test("the earlier run of an unchanged stage stands in its place", () => {
  const build: RunDetail = {
    ...run("b2", "", 100),
    config: {},
    inputs: [],
    children: [run("sft", "sft", 101)],
    cached: [run("base", "pretrain", 12), run("data", "data", 11)],
  };
  expect(stagesOf(build).map((row) => [row.run.run_id, row.isUnchanged])).toEqual([
    ["data", true],
    ["base", true],
    ["sft", false],
  ]);
});
