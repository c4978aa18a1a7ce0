// A directory with services of its own, and checks of what is left of them.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { binary } from "procref";

export const SUPPORT = path.dirname(fileURLToPath(import.meta.url));
export const run = promisify(execFile);

/** More than any wait takes on a busy machine. */
export const LIMIT = 60_000;

export class Sandbox {
  /** Creates a directory, which is removed after the test. `under` is the directory that contains it. */
  constructor(t, under = os.tmpdir()) {
    this.dir = fs.realpathSync(fs.mkdtempSync(path.join(under, "procref-node-")));
    this.runtime = fs.mkdtempSync(path.join(os.tmpdir(), "procref-run-"));
    this.log = path.join(this.dir, "service.log");
    /** The process groups of the programs that this test has started. */
    this.groups = [];
    this.env = { ...process.env, PROCREF_RUNTIME_DIR: this.runtime };
    // The test runner's own variables make a nested runner print for it.
    for (const name of Object.keys(this.env)) {
      if (/^(NODE_TEST_CONTEXT|NODE_OPTIONS|FORCE_COLOR|PROCREF_(?!RUNTIME_DIR)|npm_|VITEST|JEST)/.test(name)) delete this.env[name];
    }
    t.after(async () => {
      for (const group of this.groups) signalGroup(group, "SIGKILL");
      await this.procref("stop", "--all", "--force").catch(() => {});
      fs.rmSync(this.dir, { recursive: true });
      fs.rmSync(this.runtime, { recursive: true });
    });
  }

  write(file, text) {
    const target = path.join(this.dir, file);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.writeFileSync(target, typeof text === "string" ? text : JSON.stringify(text));
    return target;
  }

  read(file) {
    return fs.readFileSync(path.join(this.dir, file), "utf8");
  }

  /** Describes services that note their starts and stops, with more lines for each. */
  describe(services) {
    const program = path.join(SUPPORT, "service.mjs");
    const tables = Object.entries(services).map(
      ([name, more]) => `
[services.${name}]
start = ['${process.execPath}', '${program}', '${this.log}', '{port}']
export = { ${name.toUpperCase()}_URL = "http://127.0.0.1:{port}" }
${more}
`,
    );
    this.write("procref.toml", tables.join(""));
  }

  /** The command that runs the service, for the option `start`. */
  command() {
    return [process.execPath, path.join(SUPPORT, "service.mjs"), this.log, "{port}"];
  }

  /** Options of `acquire`. */
  options(more) {
    return { cwd: this.dir, env: this.env, ...more };
  }

  async procref(...args) {
    const { stdout } = await run(binary, args, { cwd: this.dir, env: this.env, timeout: LIMIT });
    return stdout;
  }

  async status(name) {
    // A service that does not run has the exit code 3.
    const { stdout } = await run(binary, ["status", name, "--json"], { cwd: this.dir, env: this.env }).catch((error) => error);
    return JSON.parse(stdout);
  }

  /** Starts a program in the directory, as the leader of a process group. */
  spawn(program, args, more = {}) {
    const child = spawn(program, args, { cwd: this.dir, env: this.env, detached: true, stdio: "pipe", ...more });
    child.output = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (child.output += data));
    child.ended = once(child, "exit");
    this.groups.push(child.pid);
    return child;
  }

  /** Starts a client, and returns it when it holds the service. */
  async client(name) {
    const child = this.spawn(process.execPath, [path.join(SUPPORT, "client.mjs"), name]);
    const [line] = await Promise.race([
      once(createInterface({ input: child.stdout }), "line"),
      child.ended.then(() => assert.fail(`the client exited: ${child.output}`)),
    ]);
    child.service = Number(line);
    return child;
  }

  /** The events of the service: `["start 17", "stop 17"]`. */
  events() {
    return fs.existsSync(this.log) ? fs.readFileSync(this.log, "utf8").trim().split("\n") : [];
  }

  /** Waits until the service has noted its start. */
  started() {
    let watcher;
    const started = new Promise((resolve) => {
      const check = () => this.events().length && resolve();
      watcher = fs.watch(this.dir, check);
      check();
    });
    return started.finally(() => watcher.close());
  }

  /** Waits until the service has stopped, and checks that it ran once and that nothing is left of it. */
  async assertOneRun(name) {
    // No file describes a service of the option `start`.
    await this.procref("wait", name, "--stopped", "--allow-unknown", "--timeout", "30s");
    const events = this.events();
    assert.equal(events.length, 2, `one start and one stop: ${events}`);
    const pid = /^start (\d+)$/.exec(events[0])?.[1];
    assert.equal(events[1], `stop ${pid}`);
    assert.ok(!isAlive(pid), "the service has exited");
    const { kernel_object: object } = await this.status(name);
    assertNoSemaphores(object);
    assert.deepEqual(this.leftFiles(), []);
  }

  /** The files in the runtime directory, except the logs of the last runs and the link to the project. */
  leftFiles(directory = this.runtime) {
    // The option `recursive` of `readdirSync` follows links in some versions of Node.js.
    return fs.readdirSync(directory, { withFileTypes: true }).flatMap((file) => {
      if (file.isDirectory()) return this.leftFiles(path.join(directory, file.name));
      return file.name.includes(".kept.log") || file.name === "project" ? [] : [file.name];
    });
  }
}

/** Waits until the output of a program matches. */
export function waitForOutput(child, pattern) {
  return new Promise((resolve) => {
    const check = () => pattern.test(child.output) && resolve();
    child.stdout.on("data", check);
    child.stderr.on("data", check);
    check();
  });
}

/** Sends a signal to the processes of a group, as a terminal does. */
export function signalGroup(group, signal) {
  try {
    process.kill(-group, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

export function isAlive(pid) {
  try {
    return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Checks that the kernel has no set of semaphores with a key such as `0x5afe0001`. */
export function assertNoSemaphores(object) {
  assert.match(object, /^0x[0-9a-f]+$/);
  const keys = fs
    .readFileSync("/proc/sysvipc/sem", "utf8")
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => Number(line.trim().split(/\s+/)[0]) >>> 0);
  assert.ok(!keys.includes(Number(object) >>> 0), `the kernel has no object ${object}`);
}
