// A project with a test runner, below the directory in which the runners are installed.
import fs from "node:fs";
import path from "node:path";

import { Sandbox, SUPPORT } from "./sandbox.mjs";

const INSTALLED = path.resolve(SUPPORT, "../..");

export class Project extends Sandbox {
  constructor(t, settings = { services: ["web"] }) {
    const projects = path.join(INSTALLED, "projects");
    fs.mkdirSync(projects, { recursive: true });
    super(t, projects);
    this.write("package.json", { type: "commonjs", procref: settings });
    this.describe({ web: "" });
    // A test writes here. It is not in the project, whose files test runners watch.
    this.results = path.join(this.runtime, "..", `${path.basename(this.dir)}-results`);
    t.after(() => fs.rmSync(this.results, { force: true }));
    this.env.RESULTS = this.results;
  }

  /** Starts a program of an installed package. */
  runner(program, ...args) {
    return this.spawn(process.execPath, [path.join(INSTALLED, "node_modules", program), ...args]);
  }

  /** Returns the lines that the tests have written. */
  lines() {
    return fs.existsSync(this.results) ? fs.readFileSync(this.results, "utf8").trim().split("\n") : [];
  }

  /** Waits until the tests have written a number of lines. Fails if the runner exits before. */
  async waitForLines(count, runner) {
    fs.writeFileSync(this.results, "", { flag: "a" });
    let watcher;
    const written = new Promise((resolve) => {
      const check = () => this.lines().filter(Boolean).length >= count && resolve();
      watcher = fs.watch(this.results, check);
      check();
    });
    const ended = runner.ended.then(() => {
      throw new Error(`the test runner exited: ${runner.output}`);
    });
    await Promise.race([written, ended]).finally(() => watcher.close());
  }
}
