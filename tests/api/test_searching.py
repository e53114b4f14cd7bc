"""Search by words and by person."""

from __future__ import annotations

from mlog.api.home import Home
from mlog.limits import SEARCH_CANDIDATES_MAX
from tests.api.conftest import read


def test_one_person_is_found_however_many_others_have_the_words(opened: Home):
    others = "".join(f"2020-01-02T10:00:00 <ben> tent {n}\n" for n in range(2 * SEARCH_CANDIDATES_MAX + 1))
    n = read(opened, f"2020-01-01T10:00:00 <ann> my tent\n{others}", "#camp.log").chats[0].n
    read(opened, "2020-01-01T11:00:00 <ann> the tent\n", "#town.log")
    assert [m.text for m in opened.search("tent", who="ann")] == ["the tent", "my tent"]
    assert [m.text for m in opened.search("tent", who="ann", limit=1)] == ["the tent"]
    assert [m.text for m in opened.search("tent", who="ann", log=n)] == ["my tent"]
    assert len(opened.search("tent", who="ben", limit=10 * SEARCH_CANDIDATES_MAX)) >= SEARCH_CANDIDATES_MAX
    assert opened.search("tent", who="zoe") == []


def test_a_text_that_an_edit_says_is_found_by_its_author(opened: Home):
    n = opened.new("tea").n
    sent = opened.send(n, "green tea")
    opened.edit(opened.message(sent.hex()), "black tea")
    assert [m.text for m in opened.search("black", who="ann")] == ["black tea"]
    assert opened.search("green", who="ann") == []


def test_a_name_that_the_owner_gave_counts_before_names_in_files(opened: Home):
    from mlog.api.identities import alias

    read(opened, "2020-01-01T10:00:00 <ann> tent\n2020-01-01T10:00:00 <ben> tent too\n", "#camp.log")
    alias(opened, "ann", "irc:ben")
    assert [m.text for m in opened.search("tent", who="Ann")] == ["tent too"]
    assert [m.text for m in opened.search("tent", who="irc:ann")] == ["tent"]
