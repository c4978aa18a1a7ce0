// Acquires a service without a free file descriptor, and again with free ones.
import fs from "node:fs";

import { acquire } from "procref";

const open = [];
for (;;) {
  try {
    open.push(fs.openSync("/dev/null"));
  } catch {
    break;
  }
}
const error = await acquire("web").catch((error) => error);
for (const fd of open) fs.closeSync(fd);
console.log(String(error));
await (await acquire("web")).release();
console.log("acquired");
