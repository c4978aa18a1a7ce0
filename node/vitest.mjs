// A global setup for Vitest: `globalSetup: "procref/vitest"`.
import packageServices from "./lib/package-services.cjs";

export default async function setup(project) {
  const { services, release } = await packageServices.acquireServices(project.config.root);
  project.provide("procref", services);
  return release;
}
