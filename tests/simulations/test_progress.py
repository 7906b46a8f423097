import io
import os
import re

import pytest
from rich.console import Console

from simulations.progress import LiveLine, PlainLines, progress
from tests.helpers.simulations.metrics import client, record, rounds


def play(report, records, total, done=0):
    """Call a report as the server's loop does."""
    with report:
        report.on_run_started(total, done)
        for committed in records:
            report.on_round_started(committed["round"], len(committed["clients"]))
            for answer in committed["clients"]:
                report.on_client_done(answer["name"], answer["status"])
            report.on_evaluating(500)
            report.on_round_committed(committed)


def plain(records, total, done=0):
    out = io.StringIO()
    play(PlainLines(out), records, total, done)
    return out.getvalue().splitlines()


def terminal(width=120):
    return Console(file=io.StringIO(), force_terminal=True, width=width, _environ={"TERM": "xterm"})


def last_line(console):
    """Return the text that a reader sees at the end: the last line that isn't empty, without control codes."""
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    return [line for line in seen.splitlines() if line.strip()][-1]


def test_a_plain_line_a_round():
    same = "aggregation error 3e-16  agreement 0.80  4/4 clients  10.0 s"
    assert plain(rounds(2), total=12) == [
        "12 rounds",
        "round  0/12  loss 2.700  accuracy 0.070  10.0 s",
        f"round  1/12  loss 2.600  accuracy 0.090  {same}  left 1 min 50 s",
        f"round  2/12  loss 2.500  accuracy 0.110  {same}  left 1 min 40 s",
    ]


def test_the_last_round_leaves_nothing():
    assert "left" not in plain(rounds(2), total=2)[-1]
    assert "left" in plain(rounds(2), total=3)[-1]


def test_time_left_is_the_mean_of_training_rounds_since_the_start():
    records = [record(0, [], seconds=900.0), record(1, [], seconds=10.0), record(2, [], seconds=20.0)]
    assert plain(records, total=4)[-1].endswith("left 30.0 s")
    assert plain(records[2:], total=4, done=1)[-1].endswith("left 40.0 s")


def test_a_resumed_run_says_what_is_done():
    assert plain([], total=12, done=5) == ["12 rounds, 5 of them done"]


def test_refused_clients_are_named_absent_ones_counted_and_idle_ones_left_out():
    clients = [
        client(0, 1),
        client(1, 1, status="refused", reason="wrong shape"),
        client(2, 1, status="absent"),
        client(3, 1, status="idle"),
    ]
    line = plain([record(1, clients)], total=1)[-1]
    assert "1/3 clients" in line
    assert line.endswith("client-01 rejected: wrong shape")
    assert "client-02" not in line


def test_without_a_test_set_the_clients_own_loss_stands_there():
    unknown = dict.fromkeys(("test_loss", "test_accuracy", "aggregation_error", "agreement"))
    line = plain([record(1, [client(0, 1)], **unknown)], total=1)[-1]
    assert line == "round 1/1  held-out loss 2.700  1/1 clients  10.0 s"


def test_plain_lines_reach_a_pipe_at_once():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as out, os.fdopen(reader, "rb", buffering=0) as pipe:
        out.write("held back until flushed\n")
        assert pipe.read() is None
        PlainLines(out).on_round_committed(rounds(0)[0])
        assert b"loss 2.700" in pipe.read()


def test_where_stderr_is_no_terminal_plain_lines_go_to_stdout(capsys):
    report = progress()
    play(report, rounds(1), total=1)
    out, err = capsys.readouterr()
    assert isinstance(report, PlainLines)
    assert out.count("\n") == 3
    assert err == ""


def test_a_terminal_that_cannot_redraw_gets_plain_lines():
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(progress(dumb), PlainLines)
    assert isinstance(progress(terminal()), LiveLine)


def test_the_live_line_shows_rounds_scores_and_time_left_and_leaves_stdout_alone(capsys):
    console = terminal()
    play(progress(console), rounds(2), total=12)
    assert all(part in last_line(console) for part in ("round 2/12", "loss 2.500", "accuracy 0.110", "left 1 min 40 s"))
    assert capsys.readouterr() == ("", "")


def test_the_live_line_counts_clients():
    console = terminal()
    with progress(console) as report:
        report.on_run_started(3, 0)
        report.on_round_started(1, 4)
        report.on_client_done("client-00", "ok")
        report.on_client_done("client-01", "absent")
    assert "2/4 clients" in console.file.getvalue()


def test_the_live_line_keeps_refusals_above_it_word_for_word():
    console = terminal()
    refused = client(0, 1, status="refused", reason="[red]shape[/red]")
    play(progress(console), [record(1, [refused])], total=2)
    assert "round 1: client-00 rejected: [red]shape[/red]" in console.file.getvalue()


def test_the_live_line_fits_eighty_columns():
    console = terminal(width=80)
    play(progress(console), rounds(2), total=12)
    assert "left 1 min 40 s" in last_line(console)


def test_an_error_passes_and_the_cursor_comes_back():
    console = terminal()
    with pytest.raises(KeyboardInterrupt), progress(console) as report:
        report.on_run_started(3, 0)
        raise KeyboardInterrupt
    hidden, shown = (console.file.getvalue().rfind(f"\x1b[?25{sign}") for sign in "lh")
    assert -1 < hidden < shown


def test_the_last_scores_stay_on_the_line_after_a_round_that_is_not_evaluated():
    console = terminal(200)
    records = [*rounds(1), record(2, [client(0, 2)], test_loss=None, test_accuracy=None)]
    records[-1]["clients"][0]["loss_after"] = None
    play(LiveLine(console), records, total=3)
    assert "round 2/3" in last_line(console)
    assert "loss 2.600 accuracy 0.090" in last_line(console)
