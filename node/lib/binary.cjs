"use strict";

const fs = require("node:fs");
const path = require("node:path");

const { ProcrefError } = require("./error.cjs");

/** The packages with the programs. npm installs the one whose `os` and `cpu` are those of the machine. */
const PACKAGES = Object.keys(require("../package.json").optionalDependencies);

/** Returns the path of the program in a package, or `undefined` if the package is not installed. */
function programOf(name) {
  let manifest;
  try {
    manifest = require.resolve(`${name}/package.json`);
  } catch {
    return undefined;
  }
  const file = name.includes("/win32-") ? "procref.exe" : "procref";
  return path.join(path.dirname(manifest), file);
}

/** Returns the path of the program `procref`: `PROCREF_BINARY`, or the one in the package for this system. */
function findBinary() {
  const named = process.env.PROCREF_BINARY;
  if (named) {
    if (!fs.existsSync(named)) {
      throw new ProcrefError(`could not find the program procref: PROCREF_BINARY names ${named}, which does not exist`);
    }
    return path.resolve(named);
  }
  const system = `${process.platform}-${process.arch}`;
  const needed = `@procref/${system}`;
  const could = `could not find the program procref for ${system}`;
  if (!PACKAGES.includes(needed)) {
    const systems = PACKAGES.map((name) => name.replace("@procref/", "")).join(", ");
    throw new ProcrefError(
      `${could}: there are packages for ${systems} only (set PROCREF_BINARY to the path of a program that you have built)`,
    );
  }
  const program = programOf(needed);
  if (program && fs.existsSync(program)) {
    return program;
  }
  if (program) {
    throw new ProcrefError(`${could}: ${program} does not exist (reinstall the package ${needed})`);
  }
  const other = PACKAGES.find(programOf);
  const cause = other
    ? `the package ${other} is installed instead of ${needed}, so node_modules is from another system (delete ` +
      `node_modules, and install the packages on this system)`
    : `the package ${needed} is not installed (install the packages without --omit=optional or --no-optional; if the ` +
      `lock file was written on another system and does not contain ${needed}, delete it and node_modules, and ` +
      `install again)`;
  throw new ProcrefError(`${could}: ${cause}; PROCREF_BINARY can name another program`);
}

module.exports = { findBinary };
