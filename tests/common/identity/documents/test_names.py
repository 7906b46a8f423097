import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from common.errors import IdentityError
from common.identity.documents.names import NODE, host_names, node_name, project_name
from common.settings.node import NodeFile


@given(st.text(max_size=70) | st.from_regex(NODE, fullmatch=True))
@example("hospital-a")
@example("a\n")
@example("a" * 64)
@example("a" * 65)
def test_a_node_may_be_named_as_its_file_says(name: str) -> None:
    try:
        TypeAdapter(NodeFile.__dataclass_fields__["name"].type).validate_python(name)
    except ValidationError:
        assert not NODE.fullmatch(name)
    else:
        assert NODE.fullmatch(name)


@pytest.mark.parametrize("name", ["hospital-a", "A", "0", "a.b_c-d", "a" * 64, "cas"])
def test_a_good_node_name(name: str) -> None:
    assert node_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/a", "a\0", "a b", "-a", "é", "a" * 65, "ca", "server"]
)
def test_a_name_that_could_reach_another_file_is_refused(name: str) -> None:
    with pytest.raises(IdentityError) as error:
        node_name(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a" * 54])
def test_a_bad_project_name_is_refused(name: str) -> None:
    assert project_name("a" * 53) == "a" * 53
    with pytest.raises(IdentityError, match="project name"):
        project_name(name)


def test_hosts_are_spelt_in_one_way_and_kept_once() -> None:
    hosts = ["Fed.Example.org", "fed.example.org", "10.0.0.5", "2001:DB8::0:1", "localhost", "xn--mnchen-3ya.de"]
    assert host_names(hosts) == ("fed.example.org", "10.0.0.5", "2001:db8::1", "localhost", "xn--mnchen-3ya.de")


@pytest.mark.parametrize(
    "host",
    [
        *("", "10.0.0.256", "10.0.0", "fed:9092", "https://fed", "*.example.org", "a_b", "-a", "a..b", "a\n"),
        *("münchen.de", "[::1]", "fe80::1%eth0", "a" * 64, ".".join(["a" * 60] * 5)),
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(IdentityError, match="server name"):
        host_names(["localhost", host])


def test_a_server_needs_a_name() -> None:
    with pytest.raises(IdentityError, match="--server"):
        host_names([])
