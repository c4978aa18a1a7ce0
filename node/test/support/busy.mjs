// A client that uses the service after Ctrl-C, as a test runner does while it cleans up.
import { acquire } from "procref";

const web = await acquire("web");
process.on("SIGINT", async () => {
  const { status } = await fetch(web.env.WEB_URL);
  console.log(`status ${status}`);
  process.exit(0);
});
process.stdin.resume();
console.log(web.pid);
