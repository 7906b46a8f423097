from pathlib import Path

import pytest

from client.data.row_checks import BadRow, read_each, read_text, require_columns
from common.errors import DataError

FILE = Path("rows.csv")


def even(number: int) -> int:
    if number % 2:
        raise BadRow(f"{number} is odd")
    return number // 2


def test_every_item_is_read_in_order() -> None:
    assert read_each(FILE, [(7, 4), (8, 2)], even) == (2, 1)


def test_the_first_five_bad_rows_are_named_and_all_are_counted() -> None:
    with pytest.raises(DataError) as error:
        read_each(FILE, [(line, line) for line in range(2, 16)], even)
    assert str(error.value).splitlines() == [
        "rows.csv: 7 of 14 rows cannot be used; fix or remove them",
        *(f"rows.csv, line {line}: {line} is odd" for line in (3, 5, 7, 9, 11)),
        "and 2 more",
    ]


def test_five_bad_rows_are_all_named() -> None:
    with pytest.raises(DataError) as error:
        read_each(FILE, [(line, line) for line in range(1, 10, 2)], even)
    assert "more" not in str(error.value)


def test_a_missing_column_names_what_is_there_and_the_key_to_set() -> None:
    require_columns(FILE, ("texts", "label"), text="texts", label="label")
    with pytest.raises(DataError) as error:
        require_columns(FILE, ("texts", "label"), text="text", label="label")
    assert str(error.value) == (
        "rows.csv has the columns 'texts', 'label', but no 'text'; did you mean 'texts'?; "
        'set text = "COLUMN" (in a recipe: [data] text)'
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "'text' is empty"),
        ({"text": None}, "'text' is empty"),
        ({"text": ""}, "'text' is empty"),
        ({"text": " \n\u2003"}, "'text' is blank"),
        ({"text": 0}, "'text' is not text but int"),
        ({"text": ["hi"]}, "'text' is not text but list"),
        ({"text": "half \ud83d"}, "half a surrogate pair"),
    ],
)
def test_what_is_no_text_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read_text(fields, "text")


def test_text_is_left_as_it_is() -> None:
    assert read_text({"text": " hi \U0001f600\n"}, "text") == " hi \U0001f600\n"
