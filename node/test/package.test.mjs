import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";

import { SUPPORT } from "./support/sandbox.mjs";

const INSTALLED = path.resolve(SUPPORT, "../..");
const SYSTEM = `${process.platform}-${process.arch}`;

function archive(directory, name, version) {
  const file = path.join(INSTALLED, directory, `${name}-${version}.tgz`);
  const tar = (...args) => execFileSync("tar", [...args], { encoding: "utf8", maxBuffer: 1 << 26 });
  const files = tar("-tzf", file).trim().split("\n").map((it) => it.replace("package/", "")).sort();
  return { files, manifest: JSON.parse(tar("-xzOf", file, "package/package.json")), listing: tar("-tvzf", file) };
}

const { default: library } = await import("procref/package.json", { with: { type: "json" } });

test("the package has these files", () => {
  assert.deepEqual(archive("packs", "procref", library.version).files, [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "bin/procref.cjs",
    "index.cjs",
    "index.d.mts",
    "index.d.ts",
    "index.mjs",
    "jest-teardown.cjs",
    "jest.cjs",
    "lib/binary.cjs",
    "lib/error.cjs",
    "lib/hold.cjs",
    "lib/package-services.cjs",
    "package.json",
    "playwright.cjs",
    "vitest.d.mts",
    "vitest.mjs",
  ]);
});

test("the package runs no script at the installation, and has no dependency of others", () => {
  const { manifest } = archive("packs", "procref", library.version);
  assert.equal(manifest.scripts, undefined);
  assert.equal(manifest.dependencies, undefined);
  for (const [name, version] of Object.entries(manifest.optionalDependencies)) {
    assert.match(name, /^@procref\//);
    assert.equal(version, manifest.version);
  }
});

test("the package of a system has the program and nothing else", () => {
  const { files, manifest, listing } = archive("packs", `procref-${SYSTEM}`, library.version);
  assert.deepEqual(files, ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "package.json", "procref"]);
  assert.equal(manifest.name, `@procref/${SYSTEM}`);
  assert.equal(manifest.version, library.version);
  assert.deepEqual([manifest.os, manifest.cpu], [[process.platform], [process.arch]]);
  assert.equal(manifest.scripts, undefined);
  assert.match(listing, /^-rwxr-xr-x .*package\/procref$/m);
});

test("the field libc is that of the program's loader, and a program without one has none", () => {
  // Debian's program needs glibc. A shell script stands in for a static program.
  assert.deepEqual(archive("packs", `procref-${SYSTEM}`, library.version).manifest.libc, ["glibc"]);
  assert.equal(archive("packs-arm64", "procref-linux-arm64", library.version).manifest.libc, undefined);
  assert.equal(archive("packs-win32", "procref-win32-x64", library.version).manifest.libc, undefined);
});
