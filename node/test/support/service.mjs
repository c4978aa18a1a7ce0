// A service that notes its start and its orderly end: `service.mjs LOG PORT`.
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";

const [log, port] = process.argv.slice(2);
process.on("SIGTERM", () => {
  appendFileSync(log, `stop ${process.pid}\n`);
  process.exit(0);
});
const server = createServer((request, response) => {
  if (request.url === "/exit") process.exit(7);
  response.setHeader("content-type", "text/html");
  response.end(`<h1>Service</h1><p id="pid">${process.pid}</p>`);
});
appendFileSync(log, `start ${process.pid}\n`);
server.listen(Number(port), "127.0.0.1");
