import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";

import { Project } from "./support/project.mjs";
import { SUPPORT } from "./support/sandbox.mjs";

const SAMPLE = `
import { acquire, binary, ProcrefError, type AcquireOptions, type Handle } from "procref";

export async function main(): Promise<number | null> {
  const options: AcquireOptions = { start: ["server", "{port}"] as const, signal: AbortSignal.timeout(1000) };
  await using handle: Handle = await acquire("web", options);
  await (await acquire("text", { start: "server {port}" })).release();
  const url: string | undefined = handle.env.WEB_URL;
  handle.died.then((error) => console.error(binary, url, error.exitCode));
  try {
    await handle.release();
  } catch (error) {
    if (error instanceof ProcrefError) return error.exitCode;
  }
  return handle.port;
}
`;
const WRONG = `
import { acquire } from "procref";
acquire(5);
acquire("web", { starts: [] });
acquire("web").then((handle) => { handle.port = 5; handle.env.X = "y"; });
acquire("web").then((handle) => handle.port + 1);
`;
const VITEST = `
import type {} from "procref/vitest";
import { inject } from "vitest";
export const port: number | null | undefined = inject("procref").web?.port;
`;

async function compile(t, files, module, moduleResolution) {
  const project = new Project(t);
  for (const [name, text] of Object.entries(files)) project.write(name, text);
  project.write("tsconfig.json", {
    compilerOptions: { strict: true, noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true, noEmit: true, target: "es2022", module, moduleResolution, types: ["node"] },
    include: Object.keys(files),
  });
  const tsc = project.runner("typescript/bin/tsc", "--project", project.dir);
  const [code] = await tsc.ended;
  return { code, output: tsc.output };
}

for (const [module, moduleResolution] of [["nodenext", "nodenext"], ["esnext", "bundler"]]) {
  test(`types are right for both kinds of modules, with ${moduleResolution}`, async (t) => {
    const { code, output } = await compile(t, { "esm.mts": SAMPLE, "cjs.cts": SAMPLE, "vitest.mts": VITEST }, module, moduleResolution);
    assert.equal(output, "");
    assert.equal(code, 0);
  });
}

test("types refuse wrong programs", async (t) => {
  const { code, output } = await compile(t, { "wrong.mts": WRONG }, "nodenext", "nodenext");
  assert.notEqual(code, 0);
  assert.equal(output.match(/error TS/g)?.length, 5, output);
});

test("the types are those of the module", async () => {
  const types = await import("node:fs").then((fs) => fs.readFileSync(path.resolve(SUPPORT, "../../node_modules/procref/index.d.ts"), "utf8"));
  const declared = [...types.matchAll(/^export declare (?:function|const|class) (\w+)/gm)].map((it) => it[1]).sort();
  assert.deepEqual(declared, Object.keys(await import("procref")).sort());
});
