"use strict";

class ProcrefError extends Error {
  /** @param {number | null} exitCode the exit code of `procref hold`, or `null` if it has none */
  constructor(message, exitCode = null) {
    super(message);
    this.name = "ProcrefError";
    this.exitCode = exitCode;
  }
}

module.exports = { ProcrefError };
