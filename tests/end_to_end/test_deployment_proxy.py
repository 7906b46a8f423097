"""A whole run whose nodes reach the server through an HTTP proxy, as one behind a hospital's firewall does."""

import pytest

from tests.helpers.end_to_end.connect_proxy import ConnectProxy
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.simulations.runs import hashes, records

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("environment")]


def test_a_run_through_a_proxy_ends_with_the_bits_of_one_without(tmp_path, environment):
    direct, behind, proxy = Project(tmp_path / "direct"), Project(tmp_path / "behind"), ConnectProxy(user="fed:p w@%")
    assert [ended.status for ended in direct.whole_run()] == [0] * 4
    assert proxy.carried == 0
    environment.setenv("https_proxy", proxy.url)
    ends = behind.whole_run()
    proxy.close()
    assert [ended.status for ended in ends] == [0] * 4, ends
    assert hashes(behind.run) == hashes(direct.run)
    assert set(proxy.asked) == {f"localhost:{behind.port}"}
    assert len(proxy.asked) >= 2 * len(
        NODES
    )  # each node's probe and its connection, and probes before the server is up
    assert proxy.carried > sum(record["bytes_up"] + record["bytes_down"] for record in records(behind.run)) > 0
