import pytest

from simulations.bench.measure import Comparison
from simulations.bench.table import page


@pytest.mark.parametrize(
    ("comparison", "row"),
    [
        (
            Comparison("encode", 20, 900, "ms", "peer", at_least=20),
            "| encode | 20 ms | 900 ms | peer | 45 | ≥ 20 | holds |",
        ),
        (Comparison("encode", 90, 900, "ms", "peer", at_least=20), "| peer | 10 | ≥ 20 | **missed** |"),
        (Comparison("step", 1.05, 1, "s", "peer", at_most=1.1), "| 1.05 s | 1 s | peer | 1.05 | ≤ 1.1 | holds |"),
        (Comparison("step", 1.2, 1, "s", "peer", at_most=1.1), "| peer | 1.2 | ≤ 1.1 | **missed** |"),
        (Comparison("memory", 2**20, 3 * 2**20, "bytes", "peer"), "| 1 MiB | 3 MiB | peer | 3 |  |  |"),
        (Comparison("weights", 73_728, 22_713_216, "numbers", "peer"), "| 73,728 | 22,713,216 | peer | 308 |  |  |"),
    ],
)
def test_a_comparison_is_a_row(comparison, row):
    assert row in page([comparison], "make bench")


def test_the_page_says_what_was_typed_and_what_was_checked():
    both = [Comparison("a", 1, 2, "s", "peer", gate="equal to 1e-7"), Comparison("b", 1, 2, "s", "peer")]
    text = page(both, "make bench")
    assert "    make bench\n" in text
    assert text.count("- equal to 1e-7") == 1
    assert "torch 2." in text
