import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import ConfigError, DataError
from common.settings.recipe import Clients
from simulations.partition.partitions import PARTITIONS, Partition
from simulations.partition.split import find_partition, hold_out, split


def _rows(per_class):
    return [{"id": f"{label}{i}", "label": label} for label, count in per_class.items() for i in range(count)]


EVEN = _rows(dict.fromkeys("abcd", 200))


def _ids(rows):
    return [row["id"] for row in rows]


def _skew(shards, label="label"):
    """Mean over clients of the total-variation distance from its class shares to an even share."""
    shares = [np.array([Counter(row[label] for row in s.rows)[c] for c in "abcd"]) / len(s.rows) for s in shards]
    return float(np.mean([np.abs(share - 0.25).sum() / 2 for share in shares]))


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    clients=st.integers(1, 8),
    min_rows=st.integers(1, 6),
    beta=st.sampled_from([1e-300, 0.01, 0.5, 100.0]),
    partition=st.sampled_from(["iid", "dirichlet"]),
    seed=st.integers(0, 2**40),
)
def test_every_row_goes_to_exactly_one_client(counts, clients, min_rows, beta, partition, seed):
    rows = _rows({chr(97 + i): count for i, count in enumerate(counts)})
    assume(len(rows) >= clients * min_rows)
    settings_ = Clients(count=clients, partition=partition, beta=beta, min_rows=min_rows)
    shards = split(rows, settings_, seed, "label")
    assert sorted(_ids([row for shard in shards for row in shard.rows])) == sorted(_ids(rows))
    assert [shard.name for shard in shards] == [f"client-{i:02}" for i in range(clients)]
    assert min(len(shard.rows) for shard in shards) >= min_rows


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_the_seed_decides(partition):
    clients = Clients(count=4, partition=partition)
    assert split(EVEN, clients, 1, "label") == split(EVEN, clients, 1, "label")
    assert split(EVEN, clients, 1, "label") != split(EVEN, clients, 2, "label")


def test_iid_shards_are_equal_in_size():
    sizes = [len(shard.rows) for shard in split(EVEN[:10], Clients(count=3, partition="iid", min_rows=1), 0, None)]
    assert sorted(sizes) == [3, 3, 4]


def test_dirichlet_is_skewed_the_more_the_smaller_beta():
    dirichlet = {beta: _skew(split(EVEN, Clients(count=5, beta=beta), 3, "label")) for beta in (0.1, 1.0, 1e6)}
    iid = _skew(split(EVEN, Clients(count=5, partition="iid"), 3, "label"))
    assert dirichlet[0.1] > 0.4 > dirichlet[1.0] > 0.1 > max(iid, dirichlet[1e6])


def test_dirichlet_proportions_have_the_variance_of_the_distribution():
    """Var of one share of Dir(beta) over n clients: (1/n)(1 - 1/n) / (n beta + 1)."""
    rows, n, beta = _rows({"a": 1000}), 4, 0.5
    shards = [split(rows, Clients(count=n, beta=beta, min_rows=1), seed, "label") for seed in range(200)]
    shares = np.array([[len(shard.rows) / 1000 for shard in each] for each in shards])
    expected = (1 / n) * (1 - 1 / n) / (n * beta + 1)
    assert 0.7 * expected < shares.var() < 1.2 * expected


def test_dirichlet_of_rows_without_classes_is_refused():
    with pytest.raises(ConfigError, match=r'\[clients\] partition = "dirichlet".*"iid"'):
        split(EVEN, Clients(count=2), 0, None)


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_too_few_rows_are_refused_with_the_numbers(partition):
    with pytest.raises(DataError, match=r"15 training rows .* count = 2 times min_rows = 8"):
        split(EVEN[:15], Clients(count=2, partition=partition), 0, "label")
    assert len(split(EVEN[:16], Clients(count=2, partition=partition), 0, "label")) == 2


OWNED = [{"id": str(i), "owner": owner} for i, owner in enumerate(["Zoë", "bob", "Zoë", "bob", "A/B Ltd", "A/B Ltd"])]


def test_column_gives_each_owner_its_rows():
    shards = split(OWNED, Clients(partition="column", column="owner", min_rows=2), 0, None)
    assert {shard.name: _ids(shard.rows) for shard in shards} == {
        "A-B-Ltd": ["4", "5"],
        "Zoe": ["0", "2"],
        "bob": ["1", "3"],
    }


@pytest.mark.parametrize(
    ("clients", "error", "message"),
    [
        (Clients(partition="column", column="ownr", min_rows=1), DataError, "'ownr'.*did you mean 'owner'"),
        (Clients(partition="column", column="owner", min_rows=3), DataError, "'A/B Ltd' has 2 .* min_rows = 3"),
        (Clients(partition="column", column="owner", min_rows=1, count=2), ConfigError, "count = 2.* 3 clients"),
    ],
)
def test_column_that_does_not_fit_is_refused(clients, error, message):
    with pytest.raises(error, match=message):
        split(OWNED, clients, 0, None)


MIXED = [{"id": i, "label": "abcde"[(i * i + i // 7) % 5], "owner": f"clinic {i * 7 % 3}"} for i in range(300)]


def _hash(rows, clients, seed):
    dealt = [[shard.name, _ids(shard.rows)] for shard in split(rows, clients, seed, "label")]
    return hashlib.sha256(json.dumps(dealt).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("keys", "seed", "expected"),
    [
        ({"count": 5, "partition": "iid"}, 0, "fbc2733fb81148f9"),
        ({"count": 5, "partition": "iid"}, 1, "42ba001c825b0402"),
        ({"count": 12, "partition": "iid", "min_rows": 1}, 7, "98227bd4247f3414"),
        ({"count": 5, "partition": "dirichlet"}, 0, "ed75c190591d6627"),
        ({"count": 5, "partition": "dirichlet"}, 1, "effd8689d0b714a9"),
        ({"count": 8, "partition": "dirichlet", "beta": 0.05, "min_rows": 20}, 3, "a7c237661a25e9ce"),
        ({"count": 101, "partition": "dirichlet", "min_rows": 1}, 3, "5eb9df8adae9564b"),
        ({"partition": "column", "column": "owner"}, 0, "82170df5c1f6f9a3"),
        ({"partition": "column", "column": "label", "count": 5}, 0, "93da320f90edfbdc"),
    ],
)
def test_shards_are_those_of_the_first_release(keys, seed, expected):
    """Runs of that release resume only if each node keeps its rows."""
    assert _hash(MIXED, Clients(**keys), seed) == expected
    assert _hash(MIXED[1:], Clients(**keys), seed) != expected


def test_every_partition_deals_each_row_once_and_needs_keys_that_exist():
    for name, partition in PARTITIONS.items():
        clients = Clients(partition=name, count=3, column="owner")
        shards = split(MIXED, clients, 0, "label")
        assert sorted(id_ for shard in shards for id_ in _ids(shard.rows)) == list(range(300))
        assert set(partition.needs) <= vars(clients).keys()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"count": 2, "partition": "dirichelt"}, r"^\[clients\] partition = 'dirichelt' is unknown.*mean 'dirichlet'"),
        ({"count": 2, "partition": "zzz"}, "'zzz' is unknown; known: .*column, dirichlet"),
        ({}, r'^partition "dirichlet" needs \[clients\] count$'),
        ({"partition": "iid", "column": "owner"}, r'^partition "iid" needs \[clients\] count$'),
        (
            {"partition": "column"},
            r'^partition "column" needs \[clients\] column, the name of the column with each row',
        ),
        ({"partition": "column", "count": 3}, r'^partition "column" needs \[clients\] column'),
    ],
)
def test_a_partition_that_cannot_deal_is_refused_with_the_remedy(keys, message):
    clients = Clients(**keys)
    for act in (find_partition, lambda clients: split(MIXED, clients, 0, "label")):
        with pytest.raises(ConfigError, match=message):
            act(clients)


def test_a_new_partition_is_one_entry(monkeypatch):
    def halves(rows, clients, seed, label):
        return {"first": range(len(rows) // 2), "second": range(len(rows) // 2, len(rows))}

    monkeypatch.setitem(PARTITIONS, "halves", Partition(halves, needs=("column",)))
    with pytest.raises(ConfigError, match=r'"halves" needs \[clients\] column'):
        split(MIXED, Clients(partition="halves"), 0, None)
    with pytest.raises(ConfigError, match="did you mean 'halves'"):
        split(MIXED, Clients(partition="halfs"), 0, None)
    shards = split(MIXED, Clients(partition="halves", column="owner"), 0, None)
    assert [(shard.name, len(shard.rows)) for shard in shards] == [("first", 150), ("second", 150)]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 100), st.integers(0, 9))
def test_hold_out_is_disjoint_and_complete(counts, wanted, seed):
    rows = _rows({chr(97 + i): count for i, count in enumerate(counts)})
    for label in ("label", None):
        train, test = hold_out(rows, wanted, seed, label)
        assert sorted(_ids(train) + _ids(test)) == sorted(_ids(rows))
        assert len(test) <= wanted


def test_hold_out_is_balanced_and_leaves_half_of_a_small_class():
    train, test = hold_out(_rows({"a": 100, "b": 50, "c": 6}), 43, 0, "label")
    assert Counter(row["label"] for row in test) == {"a": 20, "b": 20, "c": 3}
    assert Counter(row["label"] for row in train) == {"a": 80, "b": 30, "c": 3}


def test_hold_out_of_rows_without_classes_is_not_balanced():
    _, test = hold_out(_rows({"a": 900, "b": 100}), 100, 0, None)
    assert Counter(row["label"] for row in test)["a"] > 75


def test_hold_out_depends_on_the_seed():
    assert hold_out(EVEN, 40, 1, "label") == hold_out(EVEN, 40, 1, "label")
    assert hold_out(EVEN, 40, 1, "label") != hold_out(EVEN, 40, 2, "label")


def test_a_row_without_its_label_is_refused():
    with pytest.raises(DataError, match=r"row 1 has no value in column 'lable'.*did you mean 'label'"):
        hold_out(EVEN, 4, 0, "lable")
