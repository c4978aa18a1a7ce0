import assert from "node:assert/strict";
import { test } from "node:test";

import { Project } from "./support/project.mjs";
import { signalGroup, waitForOutput } from "./support/sandbox.mjs";

const USES = `
const { appendFileSync } = require("node:fs");
test("uses the service", async () => {
  const page = await (await fetch(process.env.WEB_URL)).text();
  const pid = /id="pid">(\\d+)/.exec(page)[1];
  expect(pid).toBe(process.env.PROCREF_PID);
  appendFileSync(process.env.RESULTS, pid + "\\n");
});
`;
const FAILS = `test("fails", () => expect(1).toBe(2));`;
const HANGS = `
const { appendFileSync } = require("node:fs");
test("never ends", async () => {
  appendFileSync(process.env.RESULTS, "runs\\n");
  await new Promise(() => {});
}, 600_000);
`;

function project(t, tests, config = { globalSetup: "procref/jest" }) {
  const project = new Project(t);
  project.write("jest.config.json", { testEnvironment: "node", ...config });
  for (const [name, text] of Object.entries(tests)) project.write(`${name}.test.js`, text);
  return project;
}

const jest = (project, ...args) => project.runner("jest/bin/jest.js", "--workerIdleMemoryLimit=1GB", "-w", "2", ...args);

for (const globalTeardown of [undefined, "procref/jest-teardown"]) {
  test(`workers share one service, with the teardown ${globalTeardown}`, async (t) => {
    const it = project(t, { one: USES, two: USES, three: USES }, { globalSetup: "procref/jest", globalTeardown });
    const run = jest(it);
    const [code] = await run.ended;
    assert.equal(code, 0, run.output);
    assert.doesNotMatch(run.output, /did not exit/);
    const pids = it.lines();
    assert.equal(pids.length, 3);
    assert.equal(new Set(pids).size, 1);
    await it.assertOneRun("web");
  });
}

for (const signal of ["SIGKILL", "SIGTERM"]) {
  test(`${signal} to the main process stops the service`, async (t) => {
    const it = project(t, { one: HANGS, two: HANGS });
    const run = jest(it);
    await it.waitForLines(2, run);
    run.kill(signal);
    await run.ended;
    await it.assertOneRun("web");
  });
}

test("Ctrl-C stops the service", async (t) => {
  const it = project(t, { one: HANGS, two: HANGS });
  const run = jest(it);
  await it.waitForLines(2, run);
  signalGroup(run.pid, "SIGINT");
  await run.ended;
  await it.assertOneRun("web");
});

test("bail, which runs no teardown, stops the service", async (t) => {
  const it = project(t, { one: FAILS, two: FAILS, three: USES }, { globalSetup: "procref/jest", globalTeardown: "procref/jest-teardown" });
  const run = jest(it, "--bail");
  const [code] = await run.ended;
  assert.equal(code, 1, run.output);
  await it.assertOneRun("web");
});

test("watch mode keeps the service between two runs", async (t) => {
  const it = project(t, { one: USES });
  const run = jest(it, "--watchAll");
  await it.waitForLines(1, run);
  await waitForOutput(run, /Ran all test suites/);
  it.write("one.test.js", `${USES}\n`);
  await it.waitForLines(2, run);
  run.kill("SIGINT");
  await run.ended;
  const [first, second] = it.lines();
  assert.equal(first, second);
  await it.assertOneRun("web");
});
