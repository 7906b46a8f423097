from client.policy import MAY_LEAVE
from client.results.report import SENT


def test_the_page_names_every_value_that_may_leave():
    assert {name for names, _ in SENT for name in names} == {*MAY_LEAVE, "factors", "roster", "nonce", "signature"}
