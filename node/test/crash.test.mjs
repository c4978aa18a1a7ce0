import assert from "node:assert/strict";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";

import { isAlive, Sandbox, signalGroup, SUPPORT } from "./support/sandbox.mjs";

/** Starts a program of the directory `support`, and returns it with the first line that it prints. */
async function start(sandbox, program) {
  const child = sandbox.spawn(process.execPath, [path.join(SUPPORT, program)]);
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  return [child, line];
}

test("killed client releases the service", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const client = await sandbox.client("web");
  const { holders } = await sandbox.status("web");
  client.kill("SIGKILL");
  await sandbox.assertOneRun("web");
  for (const { pid } of holders) assert.ok(!isAlive(pid), `holder ${pid} has exited`);
});

test("client killed during the start leaves nothing", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: 'ready = "log:never"' });
  const client = sandbox.spawn(process.execPath, [path.join(SUPPORT, "client.mjs"), "web"]);
  await sandbox.started();
  client.kill("SIGKILL");
  await sandbox.assertOneRun("web");
});

test("two clients share the service until both are killed", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const [one, two] = await Promise.all([sandbox.client("web"), sandbox.client("web")]);
  assert.equal(one.service, two.service);
  one.kill("SIGKILL");
  await one.ended;
  assert.ok(isAlive(two.service));
  assert.deepEqual(sandbox.events(), [`start ${two.service}`]);
  two.kill("SIGKILL");
  await sandbox.assertOneRun("web");
});

test("Ctrl-C stops the service after the client", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const [client] = await start(sandbox, "busy.mjs");
  signalGroup(client.pid, "SIGINT");
  const [code] = await client.ended;
  assert.equal(code, 0);
  assert.match(client.output, /^status 200$/m);
  await sandbox.assertOneRun("web");
});

test("child of the client does not hold the service", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const [client, child] = await start(sandbox, "parent.mjs");
  client.kill("SIGKILL");
  await sandbox.assertOneRun("web");
  assert.ok(isAlive(child));
});

test("terminated worker thread releases the service", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const [client] = await start(sandbox, "thread.mjs");
  await sandbox.assertOneRun("web");
  assert.ok(isAlive(client.pid));
});
