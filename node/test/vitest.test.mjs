import assert from "node:assert/strict";
import { test } from "node:test";

import { Project } from "./support/project.mjs";
import { signalGroup, waitForOutput } from "./support/sandbox.mjs";

const USES = `
import { appendFileSync } from "node:fs";
import { expect, inject, test } from "vitest";

test("uses the service", async () => {
  const { web } = inject("procref");
  expect(process.env.WEB_URL).toBe(web.env.WEB_URL);
  expect(process.env.PROCREF_PORT).toBe(String(web.port));
  const page = await (await fetch(process.env.WEB_URL)).text();
  expect(page).toContain(String(web.pid));
  appendFileSync(process.env.RESULTS, web.pid + "\\n");
});
`;
const HANGS = `
import { appendFileSync } from "node:fs";
import { test } from "vitest";

test("never ends", { timeout: 600_000 }, async () => {
  appendFileSync(process.env.RESULTS, "runs\\n");
  await new Promise(() => {});
});
`;

function project(t, tests, settings) {
  const project = new Project(t, settings);
  project.write("vitest.config.mjs", 'export default { test: { globalSetup: "procref/vitest", maxWorkers: 2 } };');
  for (const [name, text] of Object.entries(tests)) project.write(`${name}.test.mjs`, text);
  return project;
}

const vitest = (project, ...args) => project.runner("vitest/vitest.mjs", "run", ...args);

for (const pool of ["forks", "threads"]) {
  test(`workers of the pool ${pool} share one service`, async (t) => {
    const it = project(t, { one: USES, two: USES, three: USES });
    const run = vitest(it, "--pool", pool);
    const [code] = await run.ended;
    assert.equal(code, 0, run.output);
    const pids = it.lines();
    assert.equal(pids.length, 3);
    assert.equal(new Set(pids).size, 1);
    await it.assertOneRun("web");
  });

  test(`SIGKILL to the main process stops the service, with the pool ${pool}`, async (t) => {
    const it = project(t, { one: HANGS, two: HANGS });
    const run = vitest(it, "--pool", pool);
    await it.waitForLines(2, run);
    run.kill("SIGKILL");
    await run.ended;
    await it.assertOneRun("web");
  });
}

test("SIGTERM to the main process stops the service", async (t) => {
  const it = project(t, { one: HANGS, two: HANGS });
  const run = vitest(it);
  await it.waitForLines(2, run);
  run.kill("SIGTERM");
  await run.ended;
  await it.assertOneRun("web");
});

test("Ctrl-C stops the service", async (t) => {
  const it = project(t, { one: HANGS, two: HANGS });
  const run = vitest(it);
  await it.waitForLines(2, run);
  signalGroup(run.pid, "SIGINT");
  await run.ended;
  await it.assertOneRun("web");
});

test("bail stops the service", async (t) => {
  const fails = USES.replace("expect(page)", "expect('')");
  const it = project(t, { one: fails, two: fails, three: HANGS });
  const run = vitest(it, "--bail=1", "--maxWorkers=1");
  const [code] = await run.ended;
  assert.equal(code, 1, run.output);
  await it.assertOneRun("web");
});

test("several services are acquired, with the variables of each", async (t) => {
  const uses = `
import { expect, inject, test } from "vitest";
test("has the variables of both", () => {
  const { web, other } = inject("procref");
  expect(process.env.WEB_URL).toBe(web.env.WEB_URL);
  expect(process.env.OTHER_URL).toBe(other.env.OTHER_URL);
  expect(process.env.PROCREF_PORT_WEB).toBe(String(web.port));
  expect(process.env.PROCREF_PORT).toBe(undefined);
});`;
  const it = project(t, { one: uses }, { services: ["web", "other"] });
  it.describe({ web: "", other: "" });
  const run = vitest(it);
  const [code] = await run.ended;
  assert.equal(code, 0, run.output);
  await it.procref("wait", "other", "--stopped", "--timeout", "30s");
  await it.procref("wait", "web", "--stopped", "--timeout", "30s");
  assert.equal(it.events().filter((event) => event.startsWith("stop")).length, 2);
  assert.deepEqual(it.leftFiles(), []);
});

test("service that cannot be started fails the run, and stops the other", async (t) => {
  const it = project(t, { one: USES }, { services: ["web", "broken"] });
  it.describe({ web: "" });
  it.write("procref.toml", `${it.read("procref.toml")}\n[services.broken]\nstart = "false"\nready = "log:x"\n`);
  const run = vitest(it);
  const [code] = await run.ended;
  assert.equal(code, 1);
  assert.match(run.output, /service `broken`/);
  await it.procref("wait", "web", "--stopped", "--timeout", "30s");
  const starts = it.events().filter((event) => event.startsWith("start")).length;
  assert.ok(starts <= 1);
  assert.equal(it.events().filter((event) => event.startsWith("stop")).length, starts);
});

const DIES = `
import { test } from "vitest";
test("ends the service", { timeout: 600_000 }, async () => {
  await fetch(process.env.WEB_URL + "/exit").catch(() => {});
  END
});`;

test("service that dies during the run is reported immediately", async (t) => {
  const it = project(t, { one: DIES.replace("END", "await new Promise(() => {});") });
  const run = vitest(it);
  await waitForOutput(run, /^procref: service `web`.*exited with status 7/m);
  run.kill("SIGKILL");
  await run.ended;
});

test("service that dies at the end of the run is reported, and the run succeeds", async (t) => {
  const it = project(t, { one: DIES.replace("END", "") });
  const run = vitest(it);
  const [code] = await run.ended;
  assert.equal(code, 0, run.output);
  assert.match(run.output, /^procref: service `web`/m);
  assert.doesNotMatch(run.output, /ProcrefError/);
  assert.deepEqual(it.leftFiles(), []);
});

test("error names the package.json without services", async (t) => {
  const it = project(t, { one: USES }, undefined);
  it.write("package.json", {});
  const run = vitest(it);
  const [code] = await run.ended;
  assert.equal(code, 1);
  assert.match(run.output, /package\.json.*do not have the key `procref`.*"services"/);
});

for (const settings of [{ services: [] }, null]) {
  test(`services without a list of names are an error: ${JSON.stringify(settings)}`, async (t) => {
    const it = project(t, { one: USES }, settings);
    const run = vitest(it);
    const [code] = await run.ended;
    assert.equal(code, 1);
    assert.match(run.output, /`procref\.services` must be a list of names/);
  });
}
