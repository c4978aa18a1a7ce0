"use strict";

// A global setup for Jest: `globalSetup: "procref/jest"`.
const { acquireServices } = require("./lib/package-services.cjs");

/** The function that releases the services. The global teardown is another module. */
const RELEASE = Symbol.for("procref.jest.release");

module.exports = async function setup(globalConfig) {
  const { release } = await acquireServices(globalConfig.rootDir);
  // In watch mode, Jest calls this function before each run. The services keep running if there is no teardown.
  const previous = globalThis[RELEASE];
  globalThis[RELEASE] = release;
  await previous?.();
};
