import assert from "node:assert/strict";
import fs from "node:fs";
import { constants } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { binary } from "procref";

import { LIMIT, run, Sandbox, waitForOutput } from "./support/sandbox.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const shim = path.resolve(here, "../node_modules/procref/bin/procref.cjs");

/** Imports the package with these variables, and returns the error that Node.js prints. */
async function importError(sandbox, variables) {
  const env = { ...sandbox.env, ...variables };
  const program = 'import("procref").then(() => process.exit(9))';
  const error = await run(process.execPath, ["-e", program], { cwd: here, env }).catch((error) => error);
  assert.equal(error.code, 1);
  return error.stderr;
}

test("PROCREF_BINARY names the program", async (t) => {
  const sandbox = new Sandbox(t);
  const program = path.join(sandbox.dir, "mine");
  fs.symlinkSync(binary, program);
  const env = { ...sandbox.env, PROCREF_BINARY: program };
  const code = 'import("procref").then((it) => console.log(it.binary))';
  const { stdout } = await run(process.execPath, ["-e", code], { cwd: here, env });
  assert.equal(stdout, `${program}\n`);
});

test("PROCREF_BINARY that does not exist is an error", async (t) => {
  const sandbox = new Sandbox(t);
  assert.match(await importError(sandbox, { PROCREF_BINARY: "/missing/procref" }), /PROCREF_BINARY names \/missing\/procref/);
});

test("PROCREF_BINARY that is another program is an error", async (t) => {
  const sandbox = new Sandbox(t);
  // It prints a line that is no JSON, and would run on.
  const program = sandbox.write("other", "#!/bin/sh\necho hello\nexec sleep 600\n");
  fs.chmodSync(program, 0o755);
  const code = `
    require("procref").acquire("web").catch((error) => console.log(error.name, error.message));`;
  const env = { ...sandbox.env, PROCREF_BINARY: program };
  const { stdout } = await run(process.execPath, ["-e", code], { cwd: here, env, timeout: LIMIT });
  assert.match(stdout, /^ProcrefError service `web`: .*other printed "hello" and no JSON \(check PROCREF_BINARY/);
});

test("program of the command is the one of the package", async (t) => {
  const sandbox = new Sandbox(t);
  const version = async (program, ...args) => (await run(program, [...args, "--version"], { env: sandbox.env })).stdout;
  assert.equal(await version(process.execPath, shim), await version(binary));
});

test("command passes its input, output and exit code on", async (t) => {
  const sandbox = new Sandbox(t);
  sandbox.describe({ web: "" });
  const client = "read -r line && echo $line $WEB_URL && exit 5";
  const child = sandbox.spawn(process.execPath, [shim, "run", "web", "-c", client]);
  child.stdin.end("hello\n");
  const [code] = await child.ended;
  assert.equal(code, 5);
  assert.match(child.output, /^hello http:/);
  await sandbox.assertOneRun("web");
});

for (const [signal, expected] of [["KILL", [null, "SIGKILL"]], ["TERM", [null, "SIGTERM"]], ["USR1", [128 + constants.signals.SIGUSR1, null]]]) {
  test(`command ends as its program does, by SIG${signal}`, async (t) => {
    const sandbox = new Sandbox(t);
    sandbox.describe({ web: "" });
    const child = sandbox.spawn(process.execPath, [shim, "run", "web", "-c", `kill -${signal} $$`]);
    assert.deepEqual(await child.ended, expected);
    await sandbox.assertOneRun("web");
  });
}

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) {
  test(`command forwards ${signal}`, async (t) => {
    const sandbox = new Sandbox(t);
    sandbox.describe({ web: "" });
    const client = `trap 'echo got it; exit 3' ${signal.slice(3)}; echo ready; while read -r line || (($? > 128)); do :; done`;
    const child = sandbox.spawn(process.execPath, [shim, "run", "web", "--", "bash", "-c", client]);
    await waitForOutput(child, /ready/);
    child.kill(signal);
    const [code] = await child.ended;
    assert.deepEqual([child.output, code], ["ready\ngot it\n", 3]);
    await sandbox.assertOneRun("web");
  });
}
