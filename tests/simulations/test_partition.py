import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import ConfigError, DataError
from common.settings.recipe import Clients
from simulations.partition import hold_out, names, split

NODE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")  # common.settings.Node.name


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


@given(st.lists(st.text(max_size=80), unique=True, max_size=12))
def test_names_are_valid_and_differ(values):
    result = names(values)
    assert len(result) == len({name.casefold() for name in result}) == len(values)
    assert all(NODE_NAME.match(name) for name in result)


def test_names_stay_readable():
    assert names(["a b", "a-b", "A_B", "a-b-2", "", "x" * 70, "x" * 71]) == (
        "a-b",
        "a-b-2",
        "A_B",
        "a-b-2-2",
        "client",
        "x" * 64,
        "x" * 62 + "-2",
    )


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
