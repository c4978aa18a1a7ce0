"""Databases for tests, on a real PostgreSQL, judged by the table of its databases."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import semaphore_sets, wait_until

from plugin.conftest import Project

import procref.pytest.postgres

psycopg = pytest.importorskip("psycopg")

PROCREF_TOML = """
[services.server]
start = "postgres -D {data} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
init = "initdb -D {data} -U postgres -A trust -E UTF8 --no-instructions"
data = ".procref/pg"
path = "/usr/lib/postgresql/*/bin"
ready = "cmd:pg_isready -q -h 127.0.0.1 -p {port}"
stop-signal = "SIGINT"
user = "postgres"
"""

CONFTEST = """
import procref.pytest.postgres
database = procref.pytest.postgres.database("server", "schema.sql")
"""

TESTS = """
import pytest
@pytest.mark.parametrize("number", range(8))
def test_has_its_own_rows(database, number):
    with database.connect() as connection:
        connection.execute("INSERT INTO item VALUES ('apple')")
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (1,)
"""


class Postgres(Project):
    """A project whose service is a PostgreSQL."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.write("pytest.ini", "[pytest]\nprocref_linger = 100ms\nfilterwarnings = error\n")
        self.write("procref.toml", PROCREF_TOML)
        self.write("conftest.py", CONFTEST)
        self.write("schema.sql", "CREATE TABLE item (name text PRIMARY KEY);")
        self.write("test_server.py", TESTS)

    def databases(self, handle: procref.Handle) -> list[str]:
        url = f"postgresql://postgres@127.0.0.1:{handle.port}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'procref%' ORDER BY 1")
            return [name for (name,) in found]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    if not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        pytest.skip("PostgreSQL is not installed")
    # The user of PostgreSQL cannot enter pytest's own directory.
    directory = Path(tempfile.mkdtemp(prefix="procref-postgres-"))
    directory.chmod(0o755)
    project = Postgres(directory)
    try:
        yield project
        project.close()
        service = project.described()
        wait_until(lambda: service.status().state == "absent", "the stop of PostgreSQL", 60)
        wait_until(lambda: project.key not in semaphore_sets(), "the semaphore set is left")
    finally:
        project.described().stop(force=True)
        shutil.rmtree(directory)


def test_each_test_has_a_copy_of_one_template(postgres: Postgres) -> None:
    with postgres.described().acquire() as handle:
        code, output = postgres.pytest("-q", "-n", "2")
        assert code == 0 and "8 passed" in output, output
        (template,) = postgres.databases(handle)
        # A changed schema has another template, and the old one is removed.
        postgres.write("schema.sql", "CREATE TABLE item (name text); SELECT 1;")
        code, output = postgres.pytest("-q", "-n", "2")
        assert code == 0, output
        (other,) = postgres.databases(handle)
        assert other != template
        postgres.write("schema.sql", "CREATE TABLE item (name no_such_type);")
        code, output = postgres.pytest("-q", "-k", "0")
        assert code == 1 and 'schema.sql: type "no_such_type" does not exist' in output, output
        assert "postgres.py" not in output
        # The unfinished template does not harm the next run.
        postgres.write("schema.sql", "CREATE TABLE item (name text);")
        code, output = postgres.pytest("-q", "-n", "2")
        assert code == 0 and len(postgres.databases(handle)) == 1, output


def test_database_of_a_killed_worker_is_removed(postgres: Postgres) -> None:
    postgres.write("test_kill.py", "import os\ndef test_kill(database): os.kill(os.getpid(), 9)\n")
    with postgres.described().acquire() as handle:
        code, output = postgres.pytest("-q", "-n", "1", "test_kill.py")
        assert code == 1 and "crashed" in output, output
        assert any(name.startswith("procref_r") for name in postgres.databases(handle))
        code, output = postgres.pytest("-q", "-n", "2", "test_server.py")
        assert code == 0, output
        assert [name for name in postgres.databases(handle) if name.startswith("procref_r")] == []


def test_function_applies_the_schema_once_for_its_files(postgres: Postgres) -> None:
    (postgres.root / "schema.sql").unlink()
    postgres.write("migrations/0001.sql", "CREATE TABLE item (name text PRIMARY KEY);")
    calls = postgres.directory / "calls"
    postgres.write(
        "conftest.py",
        "import pathlib, psycopg, procref.pytest.postgres\n"
        "here = pathlib.Path(__file__).parent\n"
        "left = []\n"
        "def migrate(url):\n"
        f"    open({str(calls)!r}, 'a').write('x')\n"
        "    connection = psycopg.connect(url, autocommit=True)\n"
        "    left.append(connection)\n"
        "    for file in sorted(here.glob('migrations/*.sql')): connection.execute(file.read_text())\n"
        "database = procref.pytest.postgres.database('server', migrate, files=['migrations'], scope='session')\n",
    )
    postgres.write("pytest.ini", "[pytest]\nprocref_linger = 100ms\n")
    postgres.write("test_server.py", "def test_has_the_table(database): database.connect().execute('TABLE item').close()\n")
    with postgres.described().acquire() as handle:
        for number in (1, 2):
            for _ in range(2):
                code, output = postgres.pytest("-q", "-n", "2")
                assert code == 0, output
                assert calls.read_text() == "x" * number
                assert len(postgres.databases(handle)) == 1
            postgres.write("migrations/0002.sql", "CREATE TABLE other (name text);")


def test_schema_and_files_must_fit() -> None:
    with pytest.raises(TypeError, match="argument 'files': a schema that is a function"):
        procref.pytest.postgres.database("server", print)
    with pytest.raises(TypeError, match="argument 'files': only a schema that is a function"):
        procref.pytest.postgres.database("server", "schema.sql", files=["x"])
