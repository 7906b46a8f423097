"""Row D12 in real processes over mutual TLS: nodes whose rows have numbers, and one whose rows have labels."""

import pytest

from common.settings.tasks import REGRESSION
from tests.helpers.client.own_heads import write_rows
from tests.helpers.client.problem_rows import numbers
from tests.helpers.end_to_end.command import call
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.runs import hashes, records, toy_rows, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project whose run has ended, with the ends of its server, its nodes and one of another kind of rows."""
    folder = tmp_path_factory.mktemp("project")
    recipe = write_recipe(folder, write_rows(folder / "rows.jsonl", numbers()), problem_type=REGRESSION)
    project = Project(folder, "clients.partition=iid", recipe=recipe)
    project.write_server(keep_updates="all")
    project.admit("labelled")
    rows = write_rows(folder / "labelled.jsonl", toy_rows(text="text", label="label")[:60])
    labels = ["farm", "harbour", "kitchen", "station"]
    other = {"data": str(rows), "labels": labels, "problem_type": "single_label_classification"}
    project.ends = project.whole_run(project.node_file("labelled", **other), save=True)
    return project


def test_found_D12_the_update_is_that_of_one_process_to_the_bit_and_verified(project):
    assert [ended.status for ended in project.ends[:4]] == [0] * 4, project.ends
    assert hashes(project.run) == hashes(project.run_in_one_process())
    assert call("verify", project.run).out.splitlines()[1] == "rounds 1 to 3 recomputed: same bits"


def test_found_D12_the_loss_falls_and_no_accuracy_is_told(project):
    found = records(project.run)
    losses = [[client["loss_after"] for client in each["clients"] if client["name"] in NODES] for each in found]
    assert sum(losses[-1]) < 0.95 * sum(losses[0])
    assert all(each["test_accuracy"] is None and each["test_r2"] is None for each in found)
    page = read_page(project.run / "report.html")
    assert "mean squared error" in page.text
    assert "nats" not in page.text


def test_found_D12_a_node_of_another_problem_type_is_told_both(project):
    ended = project.ends[4]
    assert ended.status == 2
    assert f'problem_type: the run has "{REGRESSION}", the node "single_label_classification"' in ended.err


@pytest.mark.parametrize("name", [*NODES])
def test_found_D12_a_nodes_page_has_its_measures_by_their_names(project, name):
    folder = next((project.shards / "nodes").glob(f"runs/{name}/*"))
    page = read_page(folder / "report.html")
    assert "R²" in page.text
    assert "Loss (mean squared error)" in page.text
    assert "Accuracy" not in page.text
    assert "nats" not in page.text


def test_found_D12_a_nodes_run_is_evaluated_and_merged(project, tmp_path):
    folder = next((project.shards / "nodes").glob("runs/client-00/*"))
    assert '"test_r2": ' in call("evaluate", folder).out
    assert call("merge", folder, tmp_path / "merged").status == 0
    assert f'"problem_type": "{REGRESSION}"' in (tmp_path / "merged" / "config.json").read_text()
