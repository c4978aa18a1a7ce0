"""The library from Python, without an extension. `client.py LIBRARY DIR SERVICE.PY` prints the pid of the service."""

import ctypes
import sys

path, dir, program = sys.argv[1:]
library = ctypes.CDLL(path)
library.procref_service_new.restype = ctypes.c_void_p
library.procref_error_message.restype = ctypes.c_char_p
library.procref_handle_pid.restype = ctypes.c_uint32
# ctypes passes Python's numbers as `int`, which is too small for a pointer.
pointer = ctypes.c_void_p


def check(status, error):
    if status != 0:
        sys.exit(library.procref_error_message(error).decode())


assert library.procref_abi_version() == 1
words = ["python3", program, f"{dir}/log", "{port}"]
argv = (ctypes.c_char_p * 5)(*(word.encode() for word in words), None)
error = pointer()
service = pointer(library.procref_service_new(b"test", argv, ctypes.byref(error)))
assert service, library.procref_error_message(error)
check(library.procref_service_set(service, b"runtime-dir", f"{dir}/run".encode(), ctypes.byref(error)), error)
handle = pointer()
check(library.procref_acquire(service, None, ctypes.byref(handle), ctypes.byref(error)), error)
print(library.procref_handle_pid(handle))
check(library.procref_release(handle, ctypes.byref(error)), error)
library.procref_service_free(service)
