// A client in a process of its own: `client.mjs NAME`. Prints the pid of the service, and runs until its input ends.
import { acquire } from "procref";

const handle = await acquire(process.argv[2]);
console.log(handle.pid);
process.stdin.resume().on("end", () => handle.release());
