"use strict";

// A global teardown for Jest: `globalTeardown: "procref/jest-teardown"`. Without it, the services are released when
// Jest's process exits.
const RELEASE = Symbol.for("procref.jest.release");

module.exports = async function teardown() {
  const release = globalThis[RELEASE];
  globalThis[RELEASE] = undefined;
  await release?.();
};
