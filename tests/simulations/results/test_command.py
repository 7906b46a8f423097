import pytest
from typer import Typer
from typer.testing import CliRunner

from simulations.results.__main__ import main
from simulations.results.heads import __main__ as heads

APP, HEADS = Typer(), Typer()
APP.command()(main)
HEADS.command()(heads.main)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["skwe"], "error: TASK = 'skwe' is unknown; did you mean 'skew'?"),
        (
            ["skew", "--workers", "0"],
            "error: there are no records of pooled and increments yet; run it with --workers 1",
        ),
        (["skew", "--folder", "/dev/null/a"], "error: cannot make /dev/null/a: Not a directory; set another --folder"),
    ],
)
def test_bad_input_ends_with_status_2(tmp_path, words, error):
    folder = [] if "--folder" in words else ["--folder", str(tmp_path)]
    ended = CliRunner().invoke(APP, [*words, *folder])
    assert ended.exit_code == 2
    assert ended.stderr.startswith(error.replace("'skew'?", ""))


def test_heads_without_records_leave_the_page_as_it_is(tmp_path):
    before = heads.PAGE.read_text(encoding="utf-8")
    ended = CliRunner().invoke(HEADS, ["--workers", "0", "--folder", str(tmp_path)])
    assert (ended.exit_code, heads.PAGE.read_text(encoding="utf-8")) == (2, before)
    assert ended.stderr.startswith(f"error: there are no records of trained heads in {tmp_path} yet")
    assert CliRunner().invoke(HEADS, ["--workers", "0", "--folder", "/dev/null/a"]).stderr.startswith("error: cannot")
