"""A client that counts in a JSON file that filelock protects, as pytest-xdist's documentation recommends.

It reads the commands that `client.rs` describes.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time

from filelock import FileLock


class Counter:
    def __init__(self, program, site):
        self.service = [program, "serve", site]
        self.file = os.path.join(site, "shared.json")
        self.lock = FileLock(os.path.join(site, "shared.json.lock"))

    def attach(self):
        with self.lock:
            if os.path.isfile(self.file):
                with open(self.file) as file:
                    shared = json.load(file)
                shared["count"] += 1
            else:
                shared = {"count": 1, "pid": self.start()}
            self.write(shared)

    def detach(self):
        with self.lock:
            with open(self.file) as file:
                shared = json.load(file)
            shared["count"] -= 1
            if shared["count"] > 0:
                self.write(shared)
            else:
                self.stop(shared["pid"])
                os.remove(self.file)

    def write(self, shared):
        with open(self.file, "w") as file:
            json.dump(shared, file)

    def start(self):
        child = subprocess.Popen(self.service, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        child.stdout.readline()
        return child.pid

    def stop(self, pid):
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        select.select([pidfd], [], [])
        os.close(pidfd)


def repeat_for(client, seconds):
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        client.attach()
        client.detach()
        count += 1
    return count


def main():
    client = Counter(sys.argv[1], sys.argv[2])
    held = 0
    print("ready", flush=True)
    for line in sys.stdin:
        words = line.split()
        began, cpu = time.monotonic_ns(), time.process_time_ns()
        times = ""
        try:
            if words == ["attach"]:
                client.attach()
                held += 1
            elif words == ["detach"]:
                client.detach()
                held -= 1
            elif words[0] == "repeat":
                for _ in range(int(words[1])):
                    client.attach()
                    client.detach()
            elif words[0] == "last":
                times = f" {repeat_for(client, float(words[1]))}"
            else:
                raise ValueError(f"unknown command: {line}")
        except Exception as error:
            text = str(error).replace("\n", " ")
            print(f"error: {text}", flush=True)
            continue
        cpu = time.process_time_ns() - cpu
        print(f"ok {began} {time.monotonic_ns()} {cpu}{times}", flush=True)
    for _ in range(held):
        client.detach()


main()
