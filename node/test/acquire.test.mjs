import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";

import { acquire, binary, ProcrefError } from "procref";

import { LIMIT, run, Sandbox, SUPPORT } from "./support/sandbox.mjs";

test("handle has the values of the service", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const web = await acquire("web", sandbox.options());
  assert.equal(web.name, "web");
  assert.deepEqual(sandbox.events(), [`start ${web.pid}`]);
  assert.equal(web.env.WEB_URL, `http://127.0.0.1:${web.port}`);
  assert.equal(web.env.PROCREF_PORT, String(web.port));
  assert.deepEqual(web.metadata, {});
  assert.equal(web.generation, (await sandbox.status("web")).generation);
  assert.equal((await fetch(web.env.WEB_URL)).status, 200);
  await web.release();
  await web.release();
  await sandbox.assertOneRun("web");
});

test("second handle joins, and the last release stops", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const [one, two] = await Promise.all([1, 2].map(() => acquire("web", sandbox.options())));
  assert.equal(one.pid, two.pid);
  await one.release();
  assert.equal((await fetch(two.env.WEB_URL)).status, 200);
  await two[Symbol.asyncDispose]();
  await sandbox.assertOneRun("web");
});

test("acquire starts the program of its option", async (t) => {
  const sandbox = new Sandbox(t);
  const service = await acquire("it's", sandbox.options({ start: sandbox.command(), args: ["--linger", "100ms"] }));
  const { command, linger_ms: linger } = await sandbox.status("it's");
  assert.deepEqual(command, sandbox.command());
  assert.equal(linger, 100);
  await service.release();
  await sandbox.assertOneRun("it's");
});

test("words of start reach the program unchanged", async (t) => {
  const sandbox = new Sandbox(t);
  const words = ["it's", 'say "hi"', "$HOME", "a b", "", "back\\slash", ";"];
  const program = "console.error(JSON.stringify(process.argv.slice(1))); setInterval(() => {}, 1000)";
  const start = [process.execPath, "-e", program, "--", ...words];
  const service = await acquire("words", sandbox.options({ start, args: ["--ready", "log:it's"] }));
  assert.deepEqual(JSON.parse(await sandbox.procref("logs", "words")), words);
  await service.release();
});

test("start may be a text, which is split as in procref.toml", async (t) => {
  const sandbox = new Sandbox(t);
  const start = `'${process.execPath}' -e 'console.error("up"); setInterval(() => {}, 1000)'`;
  const service = await acquire("text", sandbox.options({ start, args: ["--ready", "log:up"] }));
  assert.deepEqual((await sandbox.status("text")).command.slice(1), ["-e", 'console.error("up"); setInterval(() => {}, 1000)']);
  await service.release();
});

test("acquire reads the named configuration file", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const web = await acquire("web", { env: sandbox.env, config: path.join(sandbox.dir, "procref.toml") });
  await web.release();
  await sandbox.assertOneRun("web");
});

test("acquire rejects with the error of procref", async (t) => {
  const sandbox = new Sandbox(t);
  const start = [process.execPath, "-e", "console.error('no disk'); process.exit(3)", "{port}"];
  const error = await acquire("broken", sandbox.options({ start })).catch((error) => error);
  assert.ok(error instanceof ProcrefError);
  assert.match(error.message, /^service `broken`: .*exited with status 3/s);
  assert.match(error.message, /no disk/);
  assert.equal(error.exitCode, 1);
});

test("acquire rejects an unknown option and an unknown service", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  await assert.rejects(acquire("web", sandbox.options({ args: ["--nonsense"] })), { message: /unexpected argument/, exitCode: 2 });
  await assert.rejects(acquire("wbe", sandbox.options()), (error) => /`?web`?/.test(error.message));
  await assert.rejects(acquire("web", { cwd: path.join(sandbox.dir, "missing") }), /could not execute .*missing/);
  assert.deepEqual(sandbox.events(), []);
});

test("acquire rejects with its own error if the system cannot execute the program", async (t) => {
  const sandbox = new Sandbox(t);
  // Larger than the kernel accepts.
  const env = { ...sandbox.env, LARGE: "x".repeat(4 << 20) };
  await assert.rejects(acquire("web", sandbox.options({ env })), { name: "ProcrefError", message: /could not execute .*E2BIG/ });
});

test("acquire rejects if no file descriptor is free, and works again later", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const program = path.join(SUPPORT, "descriptors.mjs");
  const { stdout } = await run("sh", ["-c", 'ulimit -n 64; exec "$0" "$1"', process.execPath, program], {
    ...sandbox.options(),
    timeout: LIMIT,
  });
  assert.match(stdout, /^ProcrefError: service `web`: could not execute .*EMFILE\nacquired\n$/);
  await sandbox.assertOneRun("web");
});

test("a name that begins with a hyphen is no option", async (t) => {
  const sandbox = new Sandbox(t);
  const service = await acquire("--help", sandbox.options({ start: sandbox.command() }));
  assert.equal(service.name, "--help");
  await service.release();
});

test("abort during the start leaves nothing", async (t) => {
  const sandbox = new Sandbox(t);
  // The service is never ready, so the acquire ends only by the signal.
  sandbox.describe({ web: 'ready = "log:never"\nstart-timeout = "1h"' });
  const controller = new AbortController();
  const acquired = acquire("web", sandbox.options({ signal: controller.signal }));
  await sandbox.started();
  controller.abort(new Error("changed my mind"));
  await assert.rejects(acquired, { message: "changed my mind" });
  await sandbox.assertOneRun("web");
});

test("abort before the call starts nothing, and after it releases nothing", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  await assert.rejects(acquire("web", sandbox.options({ signal: AbortSignal.abort() })), { name: "AbortError" });
  assert.deepEqual(sandbox.events(), []);
  const controller = new AbortController();
  const web = await acquire("web", sandbox.options({ signal: controller.signal }));
  controller.abort();
  assert.equal((await fetch(web.env.WEB_URL)).status, 200);
  await web.release();
  await sandbox.assertOneRun("web");
});

test("died is fulfilled when the service exits", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const web = await acquire("web", sandbox.options());
  // A handle does not keep this process running.
  const running = setInterval(() => {}, LIMIT);
  const answered = fetch(`${web.env.WEB_URL}/exit`).catch(() => {});
  const error = await web.died;
  clearInterval(running);
  assert.ok(error instanceof ProcrefError);
  assert.match(error.message, /^service `web`.*exited with status 7/);
  await answered;
  await web.release();
});

test("died stays pending after a release", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const web = await acquire("web", sandbox.options());
  await web.release();
  await sandbox.assertOneRun("web");
  assert.equal(await Promise.race([web.died, "pending"]), "pending");
});

test("CommonJS and ESM have the same exports", () => {
  const required = createRequire(import.meta.url)("procref");
  assert.deepEqual(Object.keys(required), ["acquire", "binary", "ProcrefError"]);
  assert.equal(required.acquire, acquire);
  assert.equal(required.binary, binary);
});

test("a handle does not keep the program running", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const program = path.join(SUPPORT, "forgetful.mjs");
  await run(process.execPath, [program], { cwd: sandbox.dir, env: sandbox.env, timeout: 30_000 });
  await sandbox.assertOneRun("web");
});
