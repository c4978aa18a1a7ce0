// A client in a worker thread, which the main thread terminates.
import { isMainThread, parentPort, Worker } from "node:worker_threads";

import { acquire } from "procref";

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url));
  worker.on("message", async (pid) => {
    await worker.terminate();
    console.log(pid);
    process.stdin.resume();
  });
} else {
  const web = await acquire("web");
  parentPort.postMessage(web.pid);
  setInterval(() => {}, 1000);
}
