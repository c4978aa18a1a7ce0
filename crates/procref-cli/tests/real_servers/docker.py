#!/usr/bin/env python3
"""Stands in for Docker: a daemon whose children are the containers, and the commands that the recipe uses.

    docker daemon                            listens at $FAKE_DOCKER until its standard input ends
    docker run --rm --label L --cidfile F [--name N] --publish 127.0.0.1:PORT:6379 IMAGE
    docker ps --all --quiet --filter label=L|name=N
    docker stop -t SECONDS ID
    docker rm --force --volumes ID

Every image is a Redis. As with Docker, a container is no child of `docker run` and outlives it, and `docker run` forwards
SIGTERM to the container.
"""

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import uuid

SOCKET = os.environ["FAKE_DOCKER"]
containers = {}


class Container:
    def __init__(self, options):
        self.options, self.id = options, uuid.uuid4().hex
        address, port, _ = options["--publish"].split(":")
        # The file is created first, and must not exist.
        with open(options["--cidfile"], "x") as file:
            file.write(self.id)
        command = ["redis-server", "--bind", address, "--port", port, "--save", ""]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, cwd="/", env={"PATH": os.environ["PATH"]}
        )
        self.exited = threading.Event()
        containers[self.id] = self

    def run(self, send):
        """Sends the output, until the container exits."""
        send({"id": self.id})
        for line in self.process.stdout:
            send({"output": line.decode()})
        send({"code": self.process.wait()})
        containers.pop(self.id, None)
        self.exited.set()

    def stop(self, seconds):
        self.process.terminate()
        if not self.exited.wait(seconds):
            self.process.kill()
            self.exited.wait()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        def send(message):
            try:
                self.wfile.write(json.dumps(message).encode() + b"\n")
            except OSError:
                pass  # `docker run` was killed. The container goes on.

        command, *words = json.loads(self.rfile.readline())
        if command == "run":
            words.remove("--rm")
            options = dict(zip(words[:-1:2], words[1:-1:2]))
            Container(options).run(send)
        elif command == "ps":
            key, value = words[words.index("--filter") + 1].split("=", 1)
            found = [id for id, it in containers.items() if it.options.get("--" + key) == value]
            send({"output": "".join(id + "\n" for id in found), "code": 0})
        else:
            container = containers.get(words[-1])
            if container is None:
                send({"output": f"no such container: {words[-1]}\n", "code": 1})
                return
            container.stop({"stop": 8, "rm": 0, "signal": 3600}[command])
            send({"code": 0})


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 100


def request(words):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(SOCKET)
    connection.sendall(json.dumps(words).encode() + b"\n")
    for line in connection.makefile():
        yield json.loads(line)


def forward(id):
    def ask(*_):
        threading.Thread(target=lambda: list(request(["signal", id])), daemon=True).start()

    signal.signal(signal.SIGTERM, ask)


def main():
    if sys.argv[1] == "daemon":
        server = Server(SOCKET, Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print("ready", flush=True)
        sys.stdin.read()
        for container in list(containers.values()):
            container.stop(0)
        return 0
    for answer in request(sys.argv[1:]):
        if "id" in answer:
            forward(answer["id"])
        print(answer.get("output", ""), end="", flush=True)
        if "code" in answer:
            return answer["code"] & 255
    return 125


if __name__ == "__main__":
    sys.exit(main())
