"""The units start commands that exist, and systemd accepts them."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

import fedlora

UNITS = sorted((Path(__file__).parents[1] / "docs" / "systemd").glob("*.service"))
STARTS = "ExecStart="


def words(unit: Path) -> list[str]:
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith(STARTS)]
    return shlex.split(line.removeprefix(STARTS))


def test_there_is_one_for_a_server_and_one_for_a_node():
    assert [unit.name for unit in UNITS] == ["fedlora-client.service", "fedlora-server.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_of_ours(unit):
    program, name, *rest = words(unit)
    command = typer.main.get_command(fedlora.app).commands[name]
    context = command.make_context(name, rest)
    assert (Path(program).name, context.params["log_format"]) == ("fedlora", "json")
    assert Path(context.params["file"]).name == f"{name}.toml"
    assert context.params.get("from_round") is None  # it would go back at each start


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_a_unit(unit, tmp_path):
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed")
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace(words(unit)[0], "/bin/true"))  # the program has to exist
    checked = subprocess.run([analyze, "verify", "--man=no", str(here)], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, [line for line in checked.stderr.splitlines() if unit.name in line]) == (0, [])
