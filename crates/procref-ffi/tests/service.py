"""A service for the tests: writes its start and its orderly end to a log. `service.py LOG PORT`"""

import os
import signal
import socket
import sys

log, port = sys.argv[1:3]


def write(line):
    with open(log, "a") as file:
        file.write(f"{line} {os.getpid()}\n")


def stop(*_):
    write("stop")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
write("start")
listener = socket.socket()
listener.bind(("127.0.0.1", int(port)))
listener.listen()
while True:
    signal.pause()
