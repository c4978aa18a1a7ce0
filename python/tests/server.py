"""A service for the tests. It writes a line to a log when it starts and when it stops.

Usage: server.py PORT LOG [DELAY]
"""

import os
import signal
import socket
import sys
import time


def main() -> None:
    port, log = int(sys.argv[1]), sys.argv[2]
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(event: str) -> None:
        os.write(file, f"{event} {os.getpid()}\n".encode())

    def stop(*_: object) -> None:
        note("stopped")
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    note("started")
    if len(sys.argv) > 3:
        time.sleep(float(sys.argv[3]))
    listener = socket.create_server(("127.0.0.1", port))
    print("ready to accept", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.sendall(str(os.getpid()).encode())
        connection.close()


if __name__ == "__main__":
    main()
