"use strict";

const { findBinary } = require("./lib/binary.cjs");
const { ProcrefError } = require("./lib/error.cjs");
const { Hold } = require("./lib/hold.cjs");

const binary = findBinary();

class Handle {
  #hold;
  #released;

  constructor(hold, instance) {
    this.#hold = hold;
    this.name = instance.name;
    this.pid = instance.pid;
    this.port = instance.port;
    this.generation = instance.generation;
    this.env = Object.freeze(instance.env);
    this.metadata = Object.freeze(instance.metadata);
    this.died = new Promise((resolve) => {
      hold.exited.then((error) => {
        if (this.#released) return;
        this.#released = Promise.resolve();
        resolve(error ?? new ProcrefError(`service \`${this.name}\`: procref hold was stopped by a signal`));
      });
    });
    hold.keepRunning(false);
  }

  release() {
    this.#released ??= this.#release();
    return this.#released;
  }

  async #release() {
    this.#hold.keepRunning(true);
    this.#hold.end();
    const error = await this.#hold.exited;
    if (error) throw error;
  }
}

// Node.js has the symbol since 20.5.
const asyncDispose = Symbol.asyncDispose ?? Symbol.for("nodejs.asyncDispose");
Object.defineProperty(Handle.prototype, asyncDispose, { value: Handle.prototype.release });

async function acquire(name, options = {}) {
  const { signal } = options;
  signal?.throwIfAborted();
  const hold = new Hold(binary, name, options);
  const cancel = () => hold.end();
  signal?.addEventListener("abort", cancel);
  try {
    const instance = await hold.ready;
    // If the signal comes after the line, the process may already have ended.
    if (!signal?.aborted) return new Handle(hold, instance);
  } catch (error) {
    if (!signal?.aborted) throw error;
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
  await hold.exited;
  throw signal.reason;
}

module.exports = { acquire, binary, ProcrefError };
