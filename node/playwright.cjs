"use strict";

// A global setup for Playwright Test: `globalSetup: "procref/playwright"`.
const path = require("node:path");

const { acquireServices } = require("./lib/package-services.cjs");

module.exports = async function setup(config) {
  const { release } = await acquireServices(config.configFile ? path.dirname(config.configFile) : process.cwd());
  return release;
};
