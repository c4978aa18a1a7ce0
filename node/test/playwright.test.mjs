// Playwright's `webServer` replaced by a service. The browser is Debian's Chromium, which takes minutes to install, so the
// test is skipped if it is not there.
import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";

import { Project } from "./support/project.mjs";

const CHROMIUM = "/usr/bin/chromium";
const skip = !fs.existsSync(CHROMIUM) && `${CHROMIUM} is not installed`;

const CONFIG = `
export default {
  globalSetup: "procref/playwright",
  workers: 2,
  fullyParallel: true,
  reporter: "line",
  use: {
    baseURL: process.env.WEB_URL,
    launchOptions: { executablePath: "${CHROMIUM}", args: ["--no-sandbox"] },
  },
};
`;
const USES = `
import { appendFileSync } from "node:fs";
import { expect, test } from "@playwright/test";

for (const number of [1, 2, 3]) {
  test("page " + number, async ({ page }) => {
    await page.goto("/");
    await expect(page.locator("h1")).toHaveText("Service");
    appendFileSync(process.env.RESULTS, (await page.locator("#pid").textContent()) + "\\n");
  });
}
`;
const HANGS = `
import { appendFileSync } from "node:fs";
import { test } from "@playwright/test";

test("never ends", async ({ page }) => {
  test.setTimeout(600_000);
  await page.goto("/");
  appendFileSync(process.env.RESULTS, "runs\\n");
  await page.waitForSelector("#missing", { timeout: 600_000 });
});
`;

function project(t, text) {
  const project = new Project(t);
  project.write("playwright.config.mjs", CONFIG);
  project.write("page.spec.mjs", text);
  return project;
}

const playwright = (project) => project.runner("@playwright/test/cli.js", "test");

test("workers share the service that replaces webServer", { skip }, async (t) => {
  const it = project(t, USES);
  const run = playwright(it);
  const [code] = await run.ended;
  assert.equal(code, 0, run.output);
  const pids = it.lines();
  assert.equal(pids.length, 3);
  assert.equal(new Set(pids).size, 1);
  await it.assertOneRun("web");
});

test("SIGKILL to Playwright stops the service", { skip }, async (t) => {
  const it = project(t, HANGS);
  const run = playwright(it);
  await it.waitForLines(1, run);
  run.kill("SIGKILL");
  await run.ended;
  await it.assertOneRun("web");
});
