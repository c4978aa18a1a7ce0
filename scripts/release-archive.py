#!/usr/bin/env python3
"""Packs the program, its manual pages and its completions for a target, and writes the checksum beside the archive.

The program must have been built for the target, and must run on this machine, because it prints its pages and its
completions. The archive contains the same bytes whenever it is made from the same commit and the same program.

    cargo build --release --locked --package procref-cli --target x86_64-unknown-linux-musl
    scripts/release-archive.py --target x86_64-unknown-linux-musl --out dist
"""

import argparse
import gzip
import hashlib
import io
import pathlib
import subprocess
import tarfile
import tempfile
import time
import tomllib
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHELLS = {"bash": "procref.bash", "zsh": "_procref", "fish": "procref.fish", "powershell": "procref.ps1"}


def files_of(program):
    """The files of the archive: name, content, and whether it is a program."""
    yield program.name, program.read_bytes(), True
    for name in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"]:
        yield name, (ROOT / name).read_bytes(), False
    for shell, name in SHELLS.items():
        script = subprocess.run([program, "completions", shell], stdout=subprocess.PIPE, check=True).stdout
        yield f"completions/{name}", script, False
    with tempfile.TemporaryDirectory() as pages:
        subprocess.run([program, "man", "--out", pages], check=True)
        for page in sorted(pathlib.Path(pages).iterdir()):
            yield f"man/{page.name}", page.read_bytes(), False


def tar_gz(path, root, files, when):
    with gzip.GzipFile(path, "wb", mtime=when) as compressed, tarfile.open(fileobj=compressed, mode="w") as archive:
        for name, content, is_program in files:
            entry = tarfile.TarInfo(f"{root}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), when, 0o755 if is_program else 0o644
            archive.addfile(entry, io.BytesIO(content))


def zip_file(path, root, files, when):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, _ in files:
            archive.writestr(zipfile.ZipInfo(f"{root}/{name}", time.gmtime(when)[:6]), content, zipfile.ZIP_DEFLATED)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--program", type=pathlib.Path, help="default: the one in target/TARGET/release")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("dist"))
    options = parser.parse_args()
    windows = "windows" in options.target
    program = options.program
    if program is None:
        program = ROOT / "target" / options.target / "release" / ("procref.exe" if windows else "procref")
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    committed = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, stdout=subprocess.PIPE, check=True)

    root = f"procref-{version}-{options.target}"
    options.out.mkdir(parents=True, exist_ok=True)
    archive = options.out / (root + (".zip" if windows else ".tgz"))
    pack = zip_file if windows else tar_gz
    pack(archive, root, files_of(program), int(committed.stdout))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    pathlib.Path(f"{archive}.sha256").write_text(f"{digest}  {archive.name}\n", newline="\n")
    print(f"{archive}: {archive.stat().st_size // 1024} KiB, sha256 {digest}")


if __name__ == "__main__":
    main()
