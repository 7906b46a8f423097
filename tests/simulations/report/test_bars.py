import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.report.bars import short_names, singular_values

parts = st.sampled_from(["model", "layers", "0", "1", "attn", "q", "v"])
names = st.lists(st.lists(parts, min_size=1, max_size=5).map(".".join), min_size=1, max_size=12, unique=True)


@given(names)
def test_short_names_stay_distinct_and_keep_their_last_part(full):
    short = short_names(full)
    assert len(set(short.values())) == len(full)
    assert all(short[name].split(".")[-1] == name.split(".")[-1] for name in full)
    assert all(len(short[name]) <= len(name) for name in full)


def test_short_names_drop_what_most_modules_share():
    layers = [f"bert.encoder.layer.{n}.attention.self.{part}" for n in (0, 1) for part in ("query", "value")]
    assert list(short_names([*layers, "classifier"]).values()) == [
        "0.query",
        "0.value",
        "1.query",
        "1.value",
        "classifier",
    ]


def test_short_names_keep_what_tells_modules_apart():
    full = ["layer.0.attention.output.dense", "layer.0.output.dense"]
    assert list(short_names(full).values()) == ["attention.dense", "dense"]


def labels(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_layer_2_stands_above_layer_10():
    spectrum = {f"layer.{n}.query": [1.0] for n in (10, 2, 1)}
    assert labels(singular_values(spectrum)) == ["1.query", "2.query", "10.query"]


@pytest.mark.parametrize(("modules", "labelled"), [(13, 13), (64, 64), (210, 105)])
def test_labels_are_thinned_out_where_they_would_touch(modules, labelled):
    figure = singular_values({f"layer.{n}.query": [1.0, 0.5] for n in range(modules)})
    assert len(labels(figure)) == labelled
    assert figure.get_figheight() < 18


def test_cells_are_relative_to_the_module_and_blank_beyond_its_rank():
    figure = singular_values({"a": [10.0, 1.0, 1e-9], "b": [3.0], "c": [0.0, 0.0, 0.0]})
    cells = figure.axes[1].images[0].get_array()
    assert cells[0].tolist() == [0.0, -1.0, -4.0]
    assert cells.mask[1].tolist() == [False, True, True]
    assert cells[2].tolist() == [-4.0, -4.0, -4.0]


def test_bars_are_frobenius_norms():
    bars = singular_values({"a": [4.0, 3.0], "b": [1.0]}).axes[0].patches
    assert [bar.get_width() for bar in bars] == [5.0, 1.0]


def test_nothing_trained_gives_no_figure():
    assert singular_values({}) is singular_values({"a": []}) is None
