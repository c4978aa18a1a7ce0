// A registry of npm packages that serves the packed archives in directories, and nothing else.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import { createServer } from "node:http";
import path from "node:path";

/** Starts the registry, and returns its URL. It is closed after the test. */
export async function startRegistry(t, directories) {
  const archives = new Map();
  for (const directory of directories) {
    for (const file of fs.readdirSync(directory)) {
      const archive = path.join(directory, file);
      const manifest = JSON.parse(execFileSync("tar", ["-xzOf", archive, "package/package.json"], { encoding: "utf8" }));
      if (!archives.has(manifest.name)) archives.set(manifest.name, { archive, manifest });
    }
  }
  const server = createServer((request, response) => {
    const name = decodeURIComponent(request.url.slice(1));
    const found = archives.get(name.replace(/\.tgz$/, ""));
    if (!found) {
      response.writeHead(404).end("{}");
    } else if (name.endsWith(".tgz")) {
      fs.createReadStream(found.archive).pipe(response);
    } else {
      const integrity = `sha512-${createHash("sha512").update(fs.readFileSync(found.archive)).digest("base64")}`;
      const tarball = `${url}/${encodeURIComponent(name)}.tgz`;
      const version = found.manifest.version;
      const versions = { [version]: { ...found.manifest, dist: { tarball, integrity } } };
      response.end(JSON.stringify({ name, versions, "dist-tags": { latest: version } }));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const url = `http://127.0.0.1:${server.address().port}`;
  return url;
}
