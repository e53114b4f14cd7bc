"""Discord's data package: both forms, the same identities as other exports, and damage."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.formats import Chat, File, Hints, Item, Record, Skipped
from mlog.formats.discord_package import DiscordPackageImporter
from mlog.formats.identity import of_id

from .trees import MemoryTree

CSV = (
    b'ID,Timestamp,Contents,Attachments\n20002,2020-01-02 00:00:01.5+00:00,"two\nlines",\n'
    b"20001,2020-01-02 00:00:00+00:00,one,https://cdn/a/b.png?x=1 https://cdn/c.txt\n"
)
ROWS = [
    {"ID": 20002, "Timestamp": "2020-01-02 00:00:01.5", "Contents": "two\nlines", "Attachments": ""},
    {
        "ID": "20001",
        "Timestamp": "2020-01-02 00:00:00",
        "Contents": "one",
        "Attachments": "https://cdn/a/b.png?x=1 https://cdn/c.txt",
    },
]


def package(form: str) -> MemoryTree:
    messages = CSV if form == "csv" else json.dumps(ROWS).encode()
    return MemoryTree(
        {
            "p/Account/user.json": b'{"id":"77","username":"ann_1","global_name":"ann"}',
            "p/Messages/index.json": b'{"12345":"tea in Home"}',
            "p/Messages/c12345/channel.json": b'{"id":"12345","name":"tea","guild":{"name":"Home"}}',
            f"p/Messages/c12345/messages.{form}": messages,
            "p/Activity/a.json": b"",
        }
    )


def read(tree: MemoryTree) -> list[Item]:
    importer = DiscordPackageImporter()
    return list(importer.parse(tree, importer.claim(tree), Hints()))


@pytest.mark.parametrize("form", ["csv", "json"])
def test_own_messages_are_read_oldest_first(form: str):
    tree = package(form)
    assert "p/Activity/a.json" not in DiscordPackageImporter().claim(tree)
    chat, _, one, two = read(tree)
    assert chat == Chat(key="discord:12345", title="#tea (Home)")
    assert isinstance(one, Record)
    assert isinstance(two, Record)
    assert (one.mid, one.author, one.uid) == (of_id("discord:12345", "20001"), "ann", "discord:77")
    assert one.files == (File(name="b.png"), File(name="c.txt"))
    assert (two.text, two.time_ms) == ("two\nlines", 1577923201500)


def test_other_trees_are_not_claimed():
    assert DiscordPackageImporter().claim(MemoryTree({"messages/a/messages.json": b""})) == ()


@given(st.sampled_from(["csv", "json"]), st.integers(0, 300), st.binary(max_size=4))
def test_any_damage_gives_items(form: str, at: int, damage: bytes):
    tree = package(form)
    for name, data in tree.files.items():
        tree.files[name] = data[:at] + damage + data[at + 1 :]
    read(tree)
    for name, data in tree.files.items():
        tree.files[name] = data[:at]
    assert all(item.file for item in read(tree) if isinstance(item, Skipped))
