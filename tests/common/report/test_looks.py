"""The colours of the pages: text stands out from its ground by 4.5 to 1 (WCAG 2.2, 1.4.3)."""

import re
from pathlib import Path

import pytest

import common.report

LAYOUT = (Path(common.report.__file__).parent / "layout.html.j2").read_text(encoding="utf-8")
SCHEMES = {"light": LAYOUT.partition("@media")[0], "dark": LAYOUT.partition("prefers-color-scheme: dark")[2]}


def colours(scheme):
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", SCHEMES[scheme].partition("@media print")[0]))


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_from_its_ground(scheme):
    found = colours(scheme)
    pairs = [(ink, ground) for ink in ("ink", "soft", "blue", "red", "green") for ground in ("paper", "warm", "tint")]
    assert {pair: value for pair in pairs if (value := contrast(*map(found.get, pair))) < 4.5} == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_both_schemes_have_the_same_colours(scheme):
    assert colours(scheme).keys() == colours("light").keys() > {"plot-blue", "plot-grey"}


def test_the_measure_of_contrast_is_that_of_the_guidelines():
    assert contrast("#fff", "#000000") == 21
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
