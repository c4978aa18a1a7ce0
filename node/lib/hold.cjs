"use strict";

const { spawn } = require("node:child_process");

const { ProcrefError } = require("./error.cjs");

/** Quotes words for `--start`, which splits a text as a shell does. Works with the rules for Windows, too. */
function quote(words) {
  if (typeof words === "string") return words;
  return words.map((word) => `'${word.replaceAll("'", `'"'"'`)}'`).join(" ");
}

/**
 * A process `procref hold`. It holds a service until its standard input ends, which the kernel does if this process
 * dies.
 */
class Hold {
  #child;
  #name;
  /** The output on standard error from the beginning of procref's error on. */
  #error = "";

  /** Fulfilled with the instance when the service is ready. Rejected if the process exits before. */
  ready;
  /** Fulfilled with an error when the process has exited, or with `null` if it has succeeded. */
  exited;

  constructor(binary, name, { config, cwd, env = process.env, start, args = [] }) {
    const options = ["hold", "--stdin", "--json", "--color", "never"];
    if (config !== undefined) options.push("--config", config);
    if (start !== undefined) options.push("--start", quote(start));
    this.#name = name;
    const notExecuted = (error) => {
      const where = cwd === undefined ? "" : ` in ${cwd}`;
      return new ProcrefError(`${this.#doing}: could not execute ${binary}${where}: ${error.message}`);
    };
    try {
      this.#child = spawn(binary, [...options, ...args, "--", name], {
        cwd,
        env,
        stdio: "pipe",
        // In a session of its own, so that Ctrl-C at the terminal does not end it before this process is done.
        detached: true,
        windowsHide: true,
      });
    } catch (error) {
      // Node.js throws some errors of the system, such as E2BIG, and reports others as an event.
      throw error.syscall ? notExecuted(error) : error;
    }
    this.exited = new Promise((resolve) => {
      this.#child.on("error", (error) => resolve(notExecuted(error)));
      this.#child.on("close", (code, signal) => resolve(this.#exit(code, signal)));
    });
    this.ready = this.#readInstance(binary);
    // Without free file descriptors there are no pipes, and only the event "error" follows.
    if (!this.#child.stdout) return;
    this.#forwardNotes();
    // The process may have exited already.
    this.#child.stdin.on("error", () => {});
  }

  /** Requests the release. */
  end() {
    this.#child.stdin?.end();
  }

  /** Sets whether the process and its pipes keep this program running. */
  keepRunning(keep) {
    const { stdin, stdout, stderr } = this.#child;
    for (const it of [this.#child, stdin, stdout, stderr]) {
      if (keep) it.ref();
      else it.unref();
    }
  }

  get #doing() {
    return `service \`${this.#name}\``;
  }

  #exit(code, signal) {
    if (code === 0) return null;
    const message = this.#error.replace(/^(procref|error): /, "").trim();
    if (message) return new ProcrefError(message, code);
    const how = signal ? `was killed by ${signal}` : `exited with code ${code}`;
    return new ProcrefError(`${this.#doing}: procref hold ${how}`, code);
  }

  async #readInstance(binary) {
    const { stdout } = this.#child;
    if (!stdout) throw await this.exited;
    let printed = "";
    stdout.setEncoding("utf8");
    const line = new Promise((resolve) => {
      stdout.on("data", (data) => {
        printed += data;
        const end = printed.indexOf("\n");
        if (end !== -1) resolve(printed.slice(0, end));
      });
    });
    const first = await Promise.race([line, this.exited]);
    if (typeof first === "string") {
      try {
        return JSON.parse(first);
      } catch {
        this.#child.kill();
        const printed = JSON.stringify(first.slice(0, 80));
        throw new ProcrefError(
          `${this.#doing}: ${binary} printed ${printed} and no JSON (check PROCREF_BINARY and the option args)`,
        );
      }
    }
    throw first ?? new ProcrefError(`${this.#doing}: procref hold ended before the service was ready`);
  }

  /** Copies the lines of standard error before procref's error. The error becomes the message of an exception. */
  #forwardNotes() {
    let line = "";
    this.#child.stderr.setEncoding("utf8");
    this.#child.stderr.on("data", (data) => {
      const lines = (line + data).split("\n");
      line = lines.pop();
      for (const it of lines) {
        if (this.#error || /^(procref|error): /.test(it)) this.#error += `${it}\n`;
        else process.stderr.write(`${it}\n`);
      }
    });
    this.#child.stderr.on("end", () => {
      this.#error += line;
    });
  }
}

module.exports = { Hold };
