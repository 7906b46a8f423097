"""Found R5: a poisoned round is left behind by the operator's `--from-round`, over real mutual TLS."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import decode_adapter, encode_adapter
from common.hash_chain import RETURN
from common.identity import operator
from common.identity.credentials import load_server_credentials
from common.identity.documents import signatures
from common.identity.documents.signatures import Return
from common.protocol.payload import Kind, Payload
from server.storage.journal_reader import verify_journal
from tests.helpers.end_to_end.command import Ended, call, end, refusal
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.end_to_end.numpy_project import honest as honestly
from tests.helpers.server.exchange import NumpyNode
from tests.helpers.server.runs import clients, hashes
from tests.helpers.simulations.runs import wait_for_line

HONEST = [NumpyNode("ada", 4), NumpyNode("bob", 2), NumpyNode("cyd", 8)]
EVE = NumpyNode("eve", 4)
CAPPED = {"max_share": 0.3, "norm_bound": 0.0}


def poison(kind: Kind, asked: Payload, reply: Payload) -> Payload:
    """B times a million in round 2."""
    if kind != "train" or asked.values["round"] != 2:
        return reply
    adapter = decode_adapter(reply.blob)
    worse = Adapter({name: Factors(f.a, f.b * np.float32(1e6)) for name, f in adapter.items()})
    return Payload(reply.values, encode_adapter(worse))


def nothing(kind: Kind, asked: Payload, reply: Payload) -> Payload:
    """No adapter in round 2, which has no quorum then."""
    return Payload(reply.values, b"") if kind == "train" and asked.values["round"] == 2 else reply


def lines_of(made: NumpyProject) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made.run / "journal" / "log.jsonl").read_text().splitlines()]


def project(folder: Path) -> NumpyProject:
    return NumpyProject(folder, CAPPED, rounds=2, quorum=4)


def back(made: NumpyProject, number: int) -> Ended:
    """Run to the end from the end of this round, with the honest nodes."""
    with made.serving("--from-round", number) as server, ExitStack() as running:
        for each in HONEST:
            running.callback(made.node(each).stop)
        return end(server)


@pytest.fixture
def poisoned(tmp_path: Path) -> NumpyProject:
    """Return a finished run whose last round Eve poisoned."""
    made = project(tmp_path / "poisoned")
    assert made.whole_run([*HONEST, EVE], {"eve": poison}).status == 0
    made.write_server(CAPPED, rounds=2, quorum=3)
    return made


@pytest.fixture
def honest(tmp_path: Path) -> list[str]:
    """Return the hashes of a run that Eve left after round 1."""
    made = project(tmp_path / "honest")
    made.admit_new(node.name for node in (*HONEST, EVE))
    with made.serving() as server, ExitStack() as running:
        for each in (*HONEST, EVE):
            running.callback(made.node(each, nothing if each is EVE else honestly).stop)
        wait_for_line(server, made.run / "journal" / "log.jsonl", 2)
    made.write_server(CAPPED, rounds=2, quorum=3)
    assert made.whole_run(HONEST).status == 0
    return hashes(verify_journal(made.run / "journal"))


def test_found_R5_a_poisoned_round_is_left_behind(poisoned: NumpyProject, honest: list[str]) -> None:
    before = verify_journal(poisoned.run / "journal")
    published = (poisoned.run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert hashes(before)[:2] == honest[:2]
    assert hashes(before)[2] != honest[2]  # control: the poison is in it
    operator.revoke(poisoned.folder / "keys", "eve", datetime.now(UTC))
    assert back(poisoned, 1).status == 0
    entries, lines = verify_journal(poisoned.run / "journal"), lines_of(poisoned)
    assert hashes(entries) == honest
    assert tuple(lines[:3]) == before  # they stay in the log
    assert "eve" not in clients(entries[2])
    assert (poisoned.run / "adapter" / "adapter_model.safetensors").read_bytes() != published
    assert call("verify", poisoned.run).out.startswith(f"intact: rounds 0 to 2, last adapter {honest[2]}")
    assert len((poisoned.run / "metrics.jsonl").read_text().splitlines()) == 3
    assert any("went back to the end of round 1: 1 later rounds are left" in line for line in poisoned.log)
    for name in ("ada", "bob", "cyd"):  # They follow, since they were told of round 1 before.
        told = (poisoned.folder / "nodes" / f"{name}.receipts").read_text().splitlines()
        assert [json.loads(line)["round"] for line in told] == [1, 2, 2]


def test_found_R5_without_it_the_poison_stays(poisoned: NumpyProject) -> None:
    before = (poisoned.run / "journal" / "log.jsonl").read_bytes()
    operator.revoke(poisoned.folder / "keys", "eve", datetime.now(UTC))
    assert poisoned.whole_run(HONEST).status == 0
    assert (poisoned.run / "journal" / "log.jsonl").read_bytes() == before


def test_found_R5_the_return_is_signed_by_the_server(poisoned: NumpyProject) -> None:
    left = verify_journal(poisoned.run / "journal")[2]
    operator.revoke(poisoned.folder / "keys", "eve", datetime.now(UTC))
    back(poisoned, 1)
    line = next(line for line in lines_of(poisoned) if RETURN in line)
    assert (line[RETURN], line["left"]) == (1, 1)
    said = {"project": "demo", "run": left["config"], "adapter_hash": line["adapter_hash"]}
    key = load_server_credentials(poisoned.folder / "keys").receipt_key.public_key()
    signature = bytes.fromhex(line["signature"])
    assert signatures.verify_signature(Return(round=1, **said), signature, key)
    assert not signatures.verify_signature(Return(round=0, **said), signature, key)


def test_found_R5_what_cannot_be_reached_is_said(poisoned: NumpyProject) -> None:
    before = (poisoned.run / "journal" / "log.jsonl").read_bytes()
    file = poisoned.file
    assert "go back to one of these rounds: 1" in refusal(call("server", file, "--from-round", 0))
    assert "round 2 is the last one, so there is nothing to leave" in refusal(call("server", file, "--from-round", 2))
    assert "no intact checkpoint of round 7" in refusal(call("server", file, "--from-round", 7))
    assert (poisoned.run / "journal" / "log.jsonl").read_bytes() == before
