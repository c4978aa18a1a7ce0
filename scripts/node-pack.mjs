#!/usr/bin/env node
// Packs the npm packages: `procref`, and the package with the program for one system.
//
//     scripts/node-pack.mjs --out DIR [--program target/debug/procref] [--system linux-x64]
//
// The program must have been built for the system, by default this one. The archives in the directory are replaced.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "..");

/**
 * Returns the value of npm's field `libc` for a program: the library that its dynamic loader belongs to. A static program
 * has none, and works with every library.
 */
function libc(program) {
  // The path of the loader is in the first page of an ELF file.
  const head = fs.readFileSync(program).subarray(0, 4096).toString("latin1");
  const loader = /\/ld-(linux|musl)/.exec(head);
  return loader && [{ linux: "glibc", musl: "musl" }[loader[1]]];
}

function pack(directory, out) {
  const [packed] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", out, directory], {
      encoding: "utf8",
      shell: process.platform === "win32",
    }),
  );
  console.log(`${packed.filename}: ${packed.entryCount} files, ${Math.ceil(packed.size / 1024)} KiB`);
}

const { values: options } = parseArgs({
  options: {
    out: { type: "string" },
    program: { type: "string", default: path.join(root, "target/debug/procref") },
    system: { type: "string", default: `${process.platform}-${process.arch}` },
  },
});
if (!options.out) throw new Error("--out is missing");
const out = path.resolve(options.out);
const [platform, cpu] = options.system.split("-");
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "procref-pack-"));
try {
  fs.mkdirSync(out, { recursive: true });
  for (const file of fs.readdirSync(out)) {
    if (file.endsWith(".tgz")) fs.rmSync(path.join(out, file));
  }

  const library = path.join(scratch, "procref");
  // npm leaves out links, such as those of the licenses.
  fs.cpSync(path.join(root, "node"), library, { recursive: true, dereference: true });
  const manifest = JSON.parse(fs.readFileSync(path.join(library, "package.json"), "utf8"));
  const { version, license, homepage, repository, bugs, publishConfig, optionalDependencies } = manifest;
  const name = `@procref/${options.system}`;
  if (!optionalDependencies[name]) throw new Error(`${name} is not in optionalDependencies of node/package.json`);
  pack(library, out);

  const native = path.join(scratch, "native");
  const program = platform === "win32" ? "procref.exe" : "procref";
  fs.mkdirSync(native);
  fs.copyFileSync(options.program, path.join(native, program));
  fs.chmodSync(path.join(native, program), 0o755);
  for (const file of ["LICENSE-MIT", "LICENSE-APACHE"]) fs.copyFileSync(path.join(root, file), path.join(native, file));
  fs.writeFileSync(path.join(native, "README.md"), `# ${name}\n\nThe program of the package \`procref\` for ${options.system}.\n`);
  const text = JSON.stringify(
    {
      name,
      version,
      description: `The program of the package procref for ${options.system}`,
      license,
      homepage,
      repository,
      bugs,
      os: [platform],
      cpu: [cpu],
      libc: (platform === "linux" && libc(options.program)) || undefined,
      files: [program, "LICENSE-*"],
      // Yarn must not leave the program in an archive.
      preferUnplugged: true,
      publishConfig,
    },
    null,
    2,
  );
  fs.writeFileSync(path.join(native, "package.json"), `${text}\n`);
  pack(native, out);
} finally {
  fs.rmSync(scratch, { recursive: true });
}
