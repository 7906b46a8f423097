"""The file that `fedlora client --example` prints."""

import re
from dataclasses import fields
from pathlib import Path

import client
from client.settings import read_node
from common.settings.node import NodeFile, Policy
from common.settings.reader import read_toml

EXAMPLE = Path(client.__file__).with_name("example.toml")


def uncommented(folder):
    """Return the example with every key set."""
    file = folder / "whole.toml"
    (folder / "chat.jinja").write_text("{{ messages }}")
    file.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", EXAMPLE.read_text()))
    return file


def test_it_is_a_nodes_file_as_it_stands():
    node = read_node(EXAMPLE)
    assert (node.name, node.policy) == ("hospital-a", Policy())


def test_it_shows_every_key_and_each_can_be_used(tmp_path):
    file = uncommented(tmp_path)
    node, tables = read_node(file), read_toml(file)
    assert {field.name for field in fields(NodeFile)} == tables.keys()
    assert {field.name for field in fields(Policy)} == tables["policy"].keys()
    assert None not in vars(node.policy).values()


def test_what_it_calls_a_default_is_one(tmp_path):
    """But for keys whose default is to be left out, which it says."""
    node, default = (NodeFile.from_node(read_node(file)) for file in (uncommented(tmp_path), EXAMPLE))
    differ = {field.name for field in fields(NodeFile) if getattr(node, field.name) != getattr(default, field.name)}
    unset = {"labels", "threads", "policy", "chat_template", "system", "src_lang", "tgt_lang"}
    assert differ == {*unset, "base", "data", "keys", "folder"}  # paths are relative to the file
