// A client with a child, which prints its pid and outlives the client.
import { spawn } from "node:child_process";

import { acquire } from "procref";

await acquire("web");
const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: ["inherit", "inherit", "inherit", "ipc"] });
console.log(child.pid);
