"""Figures of studies: no panel is shown without a map."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from simulations.studies.engine.figures import heat_maps


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_a_panel_is_shown_for_each_map_and_no_other(count):
    figure = Figure()
    heat_maps(figure, {f"map {n}": np.zeros((8, 64)) for n in range(count)}, ("i", "j"))
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.get_title()]
    assert [axes.get_title() for axes in shown] == [f"map {n}" for n in range(count)]
    empty = [axes for axes in figure.axes if axes.get_visible() and not axes.get_title()]
    assert len(empty) == 1  # the bar of colours
