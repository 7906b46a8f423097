import torch

from simulations.bench.training.tensors import tensor_peak

MEGABYTE = 2**20


def megabytes(count):
    return torch.ones(count * MEGABYTE, dtype=torch.uint8)


def test_the_peak_is_what_is_held_at_once():
    def in_turn():
        megabytes(3)
        megabytes(2)

    def together():
        return [megabytes(3), megabytes(2)]

    assert tensor_peak(in_turn) == 3 * MEGABYTE
    assert tensor_peak(together) == 5 * MEGABYTE


def test_tensors_from_before_do_not_count():
    held = megabytes(4)
    assert tensor_peak(lambda: held.view(-1)) == 0
    assert tensor_peak(held.clone) == 4 * MEGABYTE  # control
