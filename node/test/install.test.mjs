import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { before, test } from "node:test";

import { startRegistry } from "./support/registry.mjs";
import { run, Sandbox, SUPPORT } from "./support/sandbox.mjs";

const PACKS = ["packs", "packs-win32", "packs-arm64"].map((name) => path.resolve(SUPPORT, "../..", name));
const SYSTEM = `${process.platform}-${process.arch}`;

let registry;
before(async (t) => {
  registry = await startRegistry(t, PACKS);
});

/** Creates a project, and installs the package in it with these options of npm. */
async function install(t, ...options) {
  const sandbox = new Sandbox(t);
  sandbox.write("package.json", { private: true });
  sandbox.write(".npmrc", `registry=${registry}\ncache=${sandbox.dir}/cache\nupdate-notifier=false\n`);
  const args = ["install", "--no-audit", "--no-fund", ...options, "procref"];
  const { stdout, stderr } = await run("npm", args, { cwd: sandbox.dir, env: sandbox.env });
  return { sandbox, printed: stdout + stderr };
}

/** The files of node_modules, except npm's own. */
function installed(sandbox) {
  const modules = path.join(sandbox.dir, "node_modules");
  const names = fs.readdirSync(modules).filter((name) => !name.startsWith("."));
  const scope = path.join(modules, "@procref");
  return [...names.filter((name) => name !== "@procref"), ...(fs.existsSync(scope) ? fs.readdirSync(scope) : [])];
}

async function importError(sandbox) {
  sandbox.write("main.cjs", 'require("procref");');
  const error = await run(process.execPath, ["main.cjs"], { cwd: sandbox.dir, env: sandbox.env }).catch((error) => error);
  assert.equal(error.code, 1);
  return error.stderr;
}

test("fresh project gets the package for its system, and no other", async (t) => {
  const { sandbox, printed } = await install(t);
  assert.deepEqual(installed(sandbox), ["procref", SYSTEM]);
  assert.doesNotMatch(printed, /warn|script/i);
  sandbox.describe({ web: "" });
  sandbox.write("main.mjs", `import { acquire } from "procref"; const web = await acquire("web"); await web.release();`);
  await run(process.execPath, ["main.mjs"], { cwd: sandbox.dir, env: sandbox.env });
  await sandbox.assertOneRun("web");
});

test("npx runs the program", async (t) => {
  const { sandbox } = await install(t);
  const { stdout } = await run("npx", ["--no-install", "procref", "--version"], { cwd: sandbox.dir, env: sandbox.env });
  assert.match(stdout, /^procref \d/);
});

test("error without optional dependencies names the package and the option", async (t) => {
  const { sandbox } = await install(t, "--omit=optional");
  assert.deepEqual(installed(sandbox), ["procref"]);
  const error = await importError(sandbox);
  assert.match(error, new RegExp(`could not find the program procref for ${SYSTEM}: the package @procref/${SYSTEM} is not installed`));
  assert.match(error, /--omit=optional.*lock file was written on another system.*PROCREF_BINARY/);
});

test("error with the modules of another system names both packages", async (t) => {
  const { sandbox } = await install(t, "--os=win32", "--cpu=x64");
  assert.deepEqual(installed(sandbox), ["procref", "win32-x64"]);
  const error = await importError(sandbox);
  assert.match(error, new RegExp(`@procref/win32-x64 is installed instead of @procref/${SYSTEM}`));
});

test("error on a system without a package names the systems", async (t) => {
  const { sandbox } = await install(t);
  sandbox.write("other.cjs", 'Object.defineProperty(process, "platform", { value: "sunos" });');
  sandbox.write("main.cjs", 'require("./other.cjs"); require("procref");');
  const error = await run(process.execPath, ["main.cjs"], { cwd: sandbox.dir, env: sandbox.env }).catch((error) => error);
  assert.match(error.stderr, /program procref for sunos-\w+: there are packages for linux-arm64, linux-x64, win32-x64 only/);
});
