import type { TestProject } from "vitest/node";
import type { Handle } from "./index.js";

declare module "vitest" {
  interface ProvidedContext {
    /** The services of the tests, by name: `inject("procref").redis.port`. */
    procref: Record<string, Pick<Handle, "pid" | "port" | "generation" | "env" | "metadata">>;
  }
}

/** Acquires the services that `package.json` names, and returns a function that releases them. */
export default function setup(project: TestProject): Promise<() => Promise<void>>;
