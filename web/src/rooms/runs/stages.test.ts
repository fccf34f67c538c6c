import { describe, expect, test } from "vitest";
import type { RunDetail, RunEntry } from "../../api/types";
import { anchorOf, stagesOf } from "./stages";

function run(run_id: string, stage: string, started_at: number, more: Partial<RunEntry> = {}): RunEntry {
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
    ...more,
  };
}

function build(children: RunEntry[], more: Partial<RunDetail> = {}): RunDetail {
  return { ...run("b2", "", 100), config: {}, inputs: [], children, ...more };
}

const OLD = [
  run("sft-old", "sft", 13),
  run("base", "pretrain", 12),
  run("data", "data", 11),
  run("stray", "data", 10),
];
const KNOWN = new Set(["sha256:base", "sha256:data", "sha256:sft"]);

describe("stagesOf", () => {
  test("puts the earlier run of an unchanged stage in its place", () => {
    const rows = stagesOf(build([run("sft", "sft", 101)]), OLD, KNOWN);
    expect(rows.map(({ run, isUnchanged }) => [run.run_id, isUnchanged])).toEqual([
      ["data", true],
      ["base", true],
      ["sft", false],
    ]);
  });

  test("leaves out other recipes, failures and what came later", () => {
    const others = [
      run("x", "data", 11, { recipe: "other", output: "sha256:data" }),
      run("y", "pretrain", 12, { status: "failed", output: "sha256:base" }),
      run("z", "pretrain", 200, { output: "sha256:base" }),
    ];
    expect(stagesOf(build([]), others, KNOWN)).toEqual([]);
  });
});

test("anchorOf is the result, or the newest output so far", () => {
  expect(anchorOf(build([], { output: "sha256:r" }))).toBe("sha256:r");
  const children = [
    run("data", "data", 1),
    run("base", "pretrain", 2),
    run("sft", "sft", 3, { output: null }),
  ];
  expect(anchorOf(build(children, { output: null }))).toBe("sha256:base");
  expect(anchorOf(build([], { output: null }))).toBeNull();
});
