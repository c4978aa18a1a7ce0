"use strict";

const fs = require("node:fs");
const path = require("node:path");

const { acquire } = require("../index.cjs");
const { ProcrefError } = require("./error.cjs");

const EXAMPLE = `"procref": { "services": ["redis"] }`;

/** Variables of a single service. With several services they would not say which service they belong to. */
const UNNAMED = /^PROCREF_(NAME|PORT|PID|DIR|META_.*)$/;

/** Returns the directory and the settings of the nearest `package.json` that has settings for procref. */
function readSettings(from) {
  const read = [];
  for (let dir = path.resolve(from); ; dir = path.dirname(dir)) {
    const file = path.join(dir, "package.json");
    if (fs.existsSync(file)) {
      read.push(file);
      const settings = JSON.parse(fs.readFileSync(file, "utf8")).procref;
      if (settings !== undefined) return { dir, file, settings };
    }
    if (dir === path.dirname(dir)) break;
  }
  const where = read.length ? `${read.join(" and ")} do not have the key \`procref\`` : `no package.json is in ${from}`;
  throw new ProcrefError(`could not find the services of the tests: ${where} (add ${EXAMPLE})`);
}

/** Returns the variables of all services. Fails if two services export different values of one variable. */
function variablesOf(handles) {
  const variables = new Map();
  for (const { name, env } of handles) {
    for (const [key, value] of Object.entries(env)) {
      if (handles.length > 1 && UNNAMED.test(key)) continue;
      const earlier = variables.get(key);
      if (earlier && earlier.value !== value) {
        throw new ProcrefError(
          `services \`${earlier.name}\` and \`${name}\` both export ${key} (rename it in one of them)`,
        );
      }
      variables.set(key, { name, value });
    }
  }
  return Object.fromEntries([...variables].map(([key, { value }]) => [key, value]));
}

function report(error) {
  process.stderr.write(`procref: ${error.message}\n`);
}

/** Releases services. A service that has died is reported, and is no reason for a test run to fail. */
async function releaseAll(handles) {
  await Promise.all(handles.map((handle) => handle.release().catch(report)));
}

/** Acquires services side by side. If one fails, the others are cancelled and released. */
async function acquireAll(names, options) {
  const others = new AbortController();
  const acquired = await Promise.allSettled(
    names.map((name) =>
      acquire(name, { ...options, signal: others.signal }).catch((error) => {
        others.abort(error);
        throw error;
      }),
    ),
  );
  const handles = acquired.filter((it) => it.status === "fulfilled").map((it) => it.value);
  if (others.signal.aborted) {
    await releaseAll(handles);
    throw others.signal.reason;
  }
  return handles;
}

/**
 * Acquires the services that `package.json` names, and sets their variables in `process.env`. The processes that run the
 * tests inherit them.
 *
 * @param from the directory where the search for `package.json` begins
 * @returns the services by name, and a function that releases them
 */
async function acquireServices(from) {
  const { dir, file, settings } = readSettings(from);
  const names = [settings?.services].flat();
  if (!names.length || names.some((name) => typeof name !== "string")) {
    throw new ProcrefError(`${file}: \`procref.services\` must be a list of names (for example ${EXAMPLE})`);
  }
  const handles = await acquireAll([...new Set(names)], { cwd: dir, config: settings.config });
  try {
    Object.assign(process.env, variablesOf(handles));
  } catch (error) {
    await releaseAll(handles);
    throw error;
  }
  for (const handle of handles) handle.died.then(report);
  const services = handles.map(({ name, pid, port, generation, env, metadata }) => {
    return [name, { pid, port, generation, env, metadata }];
  });
  return { services: Object.fromEntries(services), release: () => releaseAll(handles) };
}

module.exports = { acquireServices };
