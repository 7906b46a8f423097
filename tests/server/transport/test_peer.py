import pytest

from common.errors import FedloraError
from server.transport.peer import Peer
from tests.helpers.end_to_end.throwaway_ca import TestAuthority


def test_a_node_is_who_its_certificate_says():
    node = TestAuthority().node("hospital-a")
    peer = Peer.from_certificate(node.certificate_pem)
    assert (peer.name, peer.key) == ("hospital-a", node.key_hash)


@pytest.mark.parametrize("pem", [b"", b"nonsense", TestAuthority().server("a.example", "b.example").certificate_pem])
def test_a_certificate_that_does_not_name_one_node_is_refused(pem):
    with pytest.raises(FedloraError):
        Peer.from_certificate(pem)
