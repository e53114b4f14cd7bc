"""The HTML page: what a parser and a real browser see, what never runs, and what 20,000 messages cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given

from mlog.formats import File, Provenance
from mlog.formats.folded import one_line, readable
from mlog.formats.html_page import POLICY, SCRIPT, STYLE
from mlog.log.bodies import Kind
from tests.formats.browser import Page, opened_browser
from tests.formats.exporting import HOSTILE, mid, reaction, record, texts, written

_ATTRIBUTES = {
    *(
        "id",
        "class",
        "href",
        "title",
        "dir",
        "lang",
        "datetime",
        "aria-label",
        "aria-labelledby",
        "aria-hidden",
    ),
    *("role", "hidden", "type", "placeholder", "autocomplete", "value", "charset", "http-equiv", "content"),
    "name",
}


class Seen(HTMLParser):
    """Tags and texts of a page, as a parser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.data.append(data)


# -- the bytes -------------------------------------------------------------------------------


@given(texts, texts)
def test_what_people_wrote_is_text_and_nothing_else(text: str, name: str) -> None:
    plain, seen = (
        Seen(written("html", [record(1, t, n), record(2, t, n, to=(mid(1),)), reaction(3, 1, t, n)], title=n))
        for t, n in (("x", "Ann"), (text, name))
    )
    empty_name = not one_line(name)
    assert [tag for tag, _ in seen.tags] == [tag for tag, _ in plain.tags] or empty_name
    assert {name for _, attributes in seen.tags for name in attributes} <= _ATTRIBUTES
    assert readable(text) in "".join(seen.data)


def test_the_page_names_no_other_file_and_its_policy_allows_its_own_parts_only() -> None:
    text = written("html", [record(n, t) for n, t in enumerate(HOSTILE)])
    seen = Seen(text)
    assert all(str(a["href"]).startswith("#m") for _, a in seen.tags if "href" in a)
    assert not [tag for tag, _ in seen.tags if tag in ("img", "link", "iframe", "object", "form", "base")]
    assert POLICY.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in POLICY
    # The policy stands before everything that it is to govern.
    assert text.index(POLICY) < text.index("<style>") < text.index("<script>")
    assert "</" not in SCRIPT + STYLE
    assert "innerHTML" not in SCRIPT


def test_days_answers_edits_reactions_files_and_what_is_gone_are_shown() -> None:
    source = Provenance(format="irc", name="a.log")
    text = written(
        "html",
        [
            record(1, "old", current="new", source=source, files=(File(name="<row>.jpg"),)),
            record(2, "yes", to=(mid(1), mid(77))),
            *(reaction(10 + n, 2, "👍", name) for n, name in enumerate(["Bo", "Cem", "Dan", "Eve", "Flo"])),
            record(3, "", erased=True),
            record(4, "", absent=True),
            record(5, "Bo has joined", "Bo", kind=Kind.JOIN),
            record(6, "Plot", kind=Kind.TITLE),
            record(1500, "next day"),
            record(9, "undated", time_ms=0),
        ],
    )
    assert re.findall(r"<h2 id=\"d\d\">(.*?)</h2>", text) == [
        "Wednesday, 1 May 2024",
        "Thursday, 2 May 2024",
        "No date",
    ]
    for part in (
        '<summary>Edited</summary><div class="text" dir="auto" lang="">old</div>',
        "&lt;row&gt;.jpg",
        'class="who said"',
        'href="#m1"',
        "a message that is not in this file",
        'title="Bo, Cem, Dan, Eve, Flo"',
        "and 2 more",
        ">Erased</div>",
        "Its text is not on this device",
        '<div class="text" dir="auto" lang="">Bo has joined</div>',
        "called the conversation <bdi>Plot</bdi>",
        "8 messages and events.",
    ):
        assert part in text, part


def test_messages_of_one_author_within_minutes_share_a_name() -> None:
    text = written("html", [record(1, "a"), record(2, "b"), record(3, "c", "Bo"), record(60, "d", "Bo")])
    assert re.findall(r'<article id="m(\d)" class="h\d+( on)?"', text) == [
        ("1", ""),
        ("2", " on"),
        ("3", ""),
        ("4", ""),
    ]


def test_an_empty_conversation_is_a_page_too() -> None:
    assert "0 messages and events." in written("html", [])


# -- in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def shown(page: Page, tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(text, encoding="utf-8", newline="\n")
    page.open(file)


def search(page: Page, words: str) -> str:
    """Type into the search box; what the counter says when it is done."""
    return page.run(
        f"""new Promise((done) => {{
            const box = document.getElementById("find"), count = document.getElementById("count");
            const watch = new MutationObserver(() => {{ watch.disconnect(); done(count.textContent); }});
            watch.observe(count, {{ childList: true, characterData: true, subtree: true }});
            box.value = {words!r};
            box.dispatchEvent(new Event("input"));
        }})"""
    )


def test_hostile_texts_neither_run_nor_break_out_nor_reach_the_network(page: Page, tmp_path: Path) -> None:
    records = [record(n, text, text[:200], to=(mid(n - 1),) if n else ()) for n, text in enumerate(HOSTILE)]
    records += [reaction(1000 + n, n, text[:60], text[:200]) for n, text in enumerate(HOSTILE)]
    shown(page, tmp_path, written("html", records, title="</title><script>window.ran = 1</script>"))
    assert page.run("window.ran") is None
    assert page.run("document.title") == "</title><script>window.ran = 1</script>"
    assert page.run("document.scripts.length") == 1
    assert page.run("document.querySelectorAll('main article').length") == len(HOSTILE)
    assert page.run("Array.from(document.querySelectorAll('article > .text'), (e) => e.textContent)") == [
        readable(text) for text in HOSTILE
    ]
    assert [sent["request"]["url"] for sent in page.named("Network.requestWillBeSent")] == [
        (tmp_path / "page.html").as_uri()
    ]
    assert page.named("Log.entryAdded") == []
    assert page.named("Runtime.exceptionThrown") == []


def test_the_policy_stops_a_script_that_got_in_all_the_same(page: Page, tmp_path: Path) -> None:
    text = written("html", [record(1, "PLACE")])
    shown(page, tmp_path, text.replace("PLACE", "<script>window.ran = 1</script><img src=//127.0.0.1/x>"))
    assert page.run("document.scripts.length") == 2
    assert page.run("window.ran") is None
    assert len(page.named("Log.entryAdded")) == 2


def test_search_finds_all_words_without_their_accents_and_escape_ends_it(page: Page, tmp_path: Path) -> None:
    records = [
        record(1, "Äpfel und Birnen"),
        record(2, "Birnen"),
        record(3, "x", "Bo"),
        record(4000, "c++ (a"),
    ]
    shown(page, tmp_path, written("html", records))
    assert page.run("document.getElementById('count').textContent") == "4 messages"
    assert search(page, "birnen APFEL") == "1 of 4"
    assert page.run("Array.from(document.querySelectorAll('article:not([hidden])'), (e) => e.id)") == ["m1"]
    assert page.run("document.querySelectorAll('section:not([hidden])').length") == 1
    assert search(page, "c++ (") == "1 of 4"
    assert search(page, "nothing here") == "0 of 4"
    key = "new KeyboardEvent('keydown', { key: 'Escape', bubbles: true })"
    page.run(f"document.getElementById('find').dispatchEvent({key})")
    assert page.run("document.querySelectorAll('article:not([hidden])').length") == 4
    assert page.named("Runtime.exceptionThrown") == []


def test_a_link_to_a_message_that_the_search_hides_shows_it(page: Page, tmp_path: Path) -> None:
    shown(page, tmp_path, written("html", [record(1, "who?"), record(2, "me", to=(mid(1),))]))
    assert search(page, "me") == "1 of 2"
    page.run("document.querySelector('a.re').click()")
    assert page.run("document.querySelector(':target').checkVisibility()") is True


def test_a_text_from_right_to_left_turns_nothing_but_itself(page: Page, tmp_path: Path) -> None:
    shown(
        page, tmp_path, written("html", [record(1, "\u202eabc"), record(2, "שלום", "נועה"), record(3, "abc")])
    )
    directions = (
        "Array.from(document.querySelectorAll('article > .text'), (e) => getComputedStyle(e).direction)"
    )
    assert page.run(directions) == ["ltr", "rtl", "ltr"]
    left = "document.querySelector('#m{} .{}').getBoundingClientRect().left"
    assert page.run(left.format(2, "who")) < page.run(left.format(2, "at"))


def test_paper_has_every_message_and_no_search_box(page: Page, tmp_path: Path) -> None:
    shown(page, tmp_path, written("html", [record(n, f"line {n}") for n in range(200)]))
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.run("document.querySelector('.bar').checkVisibility()") is False
        assert page.run("getComputedStyle(document.querySelector('.run')).contentVisibility") == "visible"
    finally:
        page.call("Emulation.setEmulatedMedia", media="")


def test_darkness_follows_the_system(page: Page, tmp_path: Path) -> None:
    shown(page, tmp_path, written("html", [record(1, "x")]))
    colours: list[str] = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.call("Emulation.setEmulatedMedia", features=features)
        colours.append(page.run("getComputedStyle(document.body).backgroundColor"))
    page.call("Emulation.setEmulatedMedia", features=[])
    assert colours == ["rgb(250, 249, 247)", "rgb(23, 24, 26)"]


def test_every_control_has_a_name_and_each_day_a_heading(page: Page, tmp_path: Path) -> None:
    shown(page, tmp_path, written("html", [record(1, "x"), record(5000, "y")]))
    assert (
        page.run("document.querySelectorAll('input:not([aria-label]), select:not([aria-label])').length") == 0
    )
    assert page.run("document.querySelectorAll('main, h1, html[lang]').length") == 3
    name_of = "document.getElementById(section.getAttribute('aria-labelledby'))"
    labels = f"Array.from(document.querySelectorAll('section'), (section) => !!{name_of})"
    assert page.run(labels) == [True, True]


def test_twenty_thousand_messages_load_scroll_and_are_searched_in_good_time(
    page: Page, tmp_path: Path
) -> None:
    """Seconds of the browser's work, with room for a busy machine: about 1.0, 2.0 and 0.5 were measured."""
    records = (record(n, f"message {n} " + "word " * (n % 40), f"name{n % 7}") for n in range(20_000))
    shown(page, tmp_path, written("html", records))
    loaded = page.metric("TaskDuration")
    page.run(
        """new Promise((done) => {
            let steps = 0;
            const step = () => {
                scrollBy(0, document.body.scrollHeight / 60);
                if (++steps < 60) requestAnimationFrame(step); else done();
            };
            step();
        })"""
    )
    scrolled = page.metric("TaskDuration")
    assert search(page, "message 777") == f"{sum('777' in str(n) for n in range(20_000))} of 20,000"
    searched = page.metric("TaskDuration")
    assert loaded < 15
    assert scrolled - loaded < 20
    assert searched - scrolled < 10
