#!/usr/bin/env node
"use strict";

// Runs the program of the package for this system. This process stays its parent: `run` becomes the client only in
// place of the program itself.
const { spawn } = require("node:child_process");
const { constants } = require("node:os");
const { isatty } = require("node:tty");

const { findBinary } = require("../lib/binary.cjs");

function fail(message) {
  process.stderr.write(`procref: ${message}\n`);
  process.exit(125);
}

let binary;
try {
  binary = findBinary();
} catch (error) {
  fail(error.message);
}
const child = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
child.on("error", (error) => fail(`could not execute ${binary}: ${error.message}`));

// A terminal sends its signals to the program, too, which must not get them twice.
const isTerminal = [0, 1, 2].some((fd) => isatty(fd));
for (const signal of ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR2"]) {
  if (process.platform === "win32" && signal !== "SIGINT") continue;
  const fromTerminal = isTerminal && (signal === "SIGINT" || signal === "SIGQUIT");
  process.on(signal, () => {
    if (!fromTerminal) child.kill(signal);
  });
}
child.on("exit", (code, signal) => {
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  // Node.js opens its debugger at SIGUSR1.
  if (signal !== "SIGUSR1") process.kill(process.pid, signal);
  process.exit(128 + constants.signals[signal]);
});
