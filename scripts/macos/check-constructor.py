#!/usr/bin/env python3
"""Checks that a program for macOS has a function that runs before `main`: check-constructor.py PROGRAM."""

import struct
import sys

SEGMENT = 0x19
# The sizes of a header, of a segment without its sections, and of a section.
HEADER, SEGMENT_SIZE, SECTION_SIZE = 32, 72, 80
# `S_MOD_INIT_FUNC_POINTERS` and `S_INIT_FUNC_OFFSETS` of `mach-o/loader.h`.
INITIALIZERS = (0x9, 0x16)


def sections(program):
    """Yields name, type and size of each section."""
    (count,) = struct.unpack_from("<I", program, 16)
    at = HEADER
    for _ in range(count):
        command, size = struct.unpack_from("<II", program, at)
        if command == SEGMENT:
            (number,) = struct.unpack_from("<I", program, at + 64)
            for place in range(number):
                section = at + SEGMENT_SIZE + place * SECTION_SIZE
                name = program[section : section + 16].rstrip(b"\0").decode()
                (length,) = struct.unpack_from("<Q", program, section + 40)
                (flags,) = struct.unpack_from("<I", program, section + 64)
                yield name, flags & 0xFF, length
        at += size


path = sys.argv[1]
with open(path, "rb") as file:
    found = [(name, size) for name, kind, size in sections(file.read()) if kind in INITIALIZERS]
if not any(size for _, size in found):
    sys.exit(f"{path} has no function that runs before main, so it cannot become a keeper")
for name, size in found:
    print(f"{path}: section {name} with {size} bytes")
