"""The same chat from two programs: what is surely the same folds, what is not sure is kept and counted."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlog import limits
from mlog.api.home import Home
from mlog.api.identities import merge
from mlog.api.importing import ChatReport
from mlog.api.matching import _STEP
from mlog.formats import Hints, Source
from tests.api.conftest import read

START_S = 1_578_873_600
"""Of 13 January 2020."""


def irc(*lines: tuple[str, str, str]) -> str:
    """Lines of (time, name, text) on one day."""
    return "".join(f"2020-01-13T{time} <{name}> {text}\n" for time, name, text in lines)


def telegram(*lines: tuple[str, str, str], replies: dict[int, int] | None = None) -> str:
    messages = [
        {
            "id": n,
            "type": "message",
            "date": f"2020-01-13T{time}",
            "date_unixtime": str(
                START_S + sum(int(p) * s for p, s in zip(time.split(":"), (3600, 60, 1), strict=True))
            ),
            "from": name,
            "from_id": f"user{name}",
            "text": text,
            **({"reply_to_message_id": (replies or {})[n]} if n in (replies or {}) else {}),
        }
        for n, (time, name, text) in enumerate(lines, start=1)
    ]
    return json.dumps({"name": "trip", "type": "private_group", "id": 7, "messages": messages})


def second(home: Home, text: str, name: str = "result.json", **options: Any) -> ChatReport:
    """Import a text, into the first conversation where nothing else is said."""
    if "into" not in options:
        options["into"] = home.conversations()[0].n
    return read(home, text, name, **options).chats[0]


TALK = (("10:00:00", "ann", "shall we go?"), ("10:00:30", "ben", "yes"), ("10:01:10", "ann", "good"))


@pytest.fixture
def known(opened: Home) -> Home:
    """With the talk from IRC, and ann of both programs one person; ben is nobody's alias."""
    read(opened, irc(*TALK), "#trip.log")
    read(opened, telegram(("09:00:00", "Annie", "other chat")), "other.json")
    merge(opened, "irc:ann", "Annie")
    return opened


def said(home: Home) -> list[str]:
    return [message.text for message in home.messages(home.conversations()[0].n)]


def test_the_same_chat_of_two_programs_has_no_doubles(known: Home):
    again = tuple((time, {"ann": "Annie"}.get(name, name), text) for time, name, text in TALK)
    for _ in range(2):
        counts = second(known, telegram(*again))
        assert (counts.new, counts.known, counts.same, counts.unsure) == (0, 3, 3, 0)
        assert said(known) == ["shall we go?", "yes", "good"]


def test_what_only_the_second_export_has_is_added(known: Home):
    counts = second(known, telegram(("10:00:10", "ben", "where?"), ("10:00:30", "ben", "yes")))
    assert (counts.new, counts.same) == (1, 1)
    assert sorted(said(known)) == ["good", "shall we go?", "where?", "yes"]


def test_answers_name_the_message_that_was_here(known: Home):
    second(known, telegram(("10:00:30", "ben", "yes"), ("10:05:00", "ben", "or no"), replies={2: 1}))
    [conversation, *_] = known.conversations()
    by_text = {message.text: message for message in known.messages(conversation.n)}
    assert by_text["or no"].to == (by_text["yes"].mid,)


def reasons(counts: ChatReport) -> list[str]:
    return [one.reason for one in counts.unsure_at]


def test_the_same_text_twice_folds_by_the_second(opened: Home):
    read(opened, irc(("10:00:30", "ben", "ok"), ("10:00:31", "ben", "ok")), "#trip.log")
    counts = second(opened, telegram(("10:00:30", "ben", "ok"), ("10:00:31", "ben", "ok")))
    assert (counts.new, counts.same, counts.unsure) == (0, 2, 0)


def test_one_of_two_that_are_a_second_off_is_not_chosen(opened: Home):
    read(opened, irc(("10:00:30", "ben", "ok"), ("10:00:32", "ben", "ok")), "#trip.log")
    counts = second(opened, telegram(("10:00:31", "ben", "ok")))
    assert (counts.new, counts.same, reasons(counts)) == (1, 0, ["several"])


def test_two_for_one_are_one_and_a_further_message(opened: Home):
    read(opened, irc(("10:00:30", "ben", "ok")), "#trip.log")
    counts = second(opened, telegram(("10:00:30", "ben", "ok"), ("10:00:31", "ben", "ok")))
    assert (counts.new, counts.same, reasons(counts)) == (1, 1, ["several"])
    assert said(opened) == ["ok", "ok"]


def test_what_the_program_tells_apart_is_never_folded(opened: Home):
    """A later export of the same chat that begins where the earlier one ended, in the same second."""
    first = second(opened, telegram(("10:00:30", "ben", "ok")), into=None)
    read(opened, irc(*TALK), "#other.log", into=first.n)  # so that there is something to compare with
    later = json.loads(telegram(("10:00:30", "ben", "ok")))
    later["messages"][0]["id"] = 2
    counts = second(opened, json.dumps(later), into=first.n)
    assert (counts.new, counts.same, counts.unsure) == (1, 0, 0)


def test_a_further_equal_line_of_the_same_channel_is_a_message(opened: Home):
    read(opened, irc(("10:00:30", "ben", "ok")), "#trip.log")
    counts = read(opened, irc(("10:00:30", "ben", "ok"), ("10:00:30", "ben", "ok")), "#trip.log").chats[0]
    assert (counts.new, counts.known, counts.same, counts.unsure) == (1, 1, 0, 0)


def test_the_same_channel_by_two_people_folds_once_they_say_who_is_who(opened: Home):
    read(opened, irc(*TALK), "#trip.log")
    merge(opened, "irc:ann", "irc:annie")
    again = irc(*((time, name.replace("ann", "annie"), text) for time, name, text in TALK))
    counts = read(opened, again, "#trip.log").chats[0]
    assert (counts.new, counts.known, counts.same, counts.unsure) == (0, 3, 2, 0)


# -- how exact times are ---------------------------------------------------------------------


def whatsapp(*lines: tuple[str, str, str]) -> str:
    """Lines of (time, name, text) as a phone writes them that gives no seconds."""
    return "".join(f"13/01/2020, {time[:5]} - {name}: {text}\n" for time, name, text in lines)


TEA = (
    ("10:00:05", "ann", "who wants tea?"),
    ("10:00:40", "ben", "me"),
    ("10:00:50", "ben", "me"),
    ("10:02:10", "ann", "soon"),
)


def test_a_program_without_seconds_folds_by_the_minute(opened: Home):
    read(opened, irc(*TEA), "#trip.log")
    counts = second(opened, whatsapp(*TEA))
    assert (counts.new, counts.same, counts.unsure) == (0, 4, 0)


def test_the_other_way_round_too(opened: Home):
    second(opened, whatsapp(*TEA), into=None)
    counts = read(opened, irc(*TEA), "#trip.log", into=opened.conversations()[0].n).chats[0]
    assert (counts.new, counts.same, counts.unsure) == (0, 4, 0)


def test_missing_lines_of_the_same_minute_are_not_made_up_for(opened: Home):
    read(opened, irc(*TEA), "#trip.log")
    one_less = (TEA[0], TEA[1], TEA[3])
    counts = second(opened, whatsapp(*one_less))
    assert (counts.new, counts.same, reasons(counts)) == (1, 2, ["several"])


def test_a_full_minute_of_a_program_with_seconds_is_exact(opened: Home):
    read(opened, irc(("10:00:40", "ben", "ok"), ("10:07:11", "ann", "tea?")), "#trip.log")
    counts = second(opened, irc(("10:00:00", "ben", "ok"), ("10:08:21", "ann", "or coffee?")), name="#b.log")
    assert (counts.new, counts.same, counts.unsure) == (2, 0, 0)


def test_one_full_minute_alone_does_not_show_how_exact_it_is(opened: Home):
    read(opened, irc(("10:00:40", "ben", "ok")), "#trip.log")
    counts = second(opened, irc(("10:00:00", "ben", "ok")), name="#b.log")
    assert (counts.new, counts.same, reasons(counts)) == (1, 0, ["time"])


# -- what is alike and not the same ----------------------------------------------------------


def moved(minutes: int, *lines: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    """The same, so much later."""
    found = list[tuple[str, str, str]]()
    for time, name, text in lines:
        hour, minute, seconds = (int(part) for part in time.split(":"))
        hour, minute = divmod(hour * 60 + minute + minutes, 60)
        found.append((f"{hour:02}:{minute:02}:{seconds:02}", name, text))
    return found


@pytest.mark.parametrize("minutes", [120, -330, 840])
def test_another_time_zone_is_named_and_not_folded(opened: Home, minutes: int):
    long = ("09:00:00", "ben", "we meet at the station"), ("09:00:09", "ann", "at the usual platform")
    read(opened, irc(*long), "#trip.log")
    counts = second(opened, telegram(*moved(minutes, *long)))
    assert (counts.new, counts.same, reasons(counts)) == (2, 0, ["zone"] * 2)
    assert {one.minutes for one in counts.unsure_at} == {minutes}


@pytest.mark.parametrize("minutes", [1, 7, 16, 900])
def test_other_differences_of_time_are_other_messages(opened: Home, minutes: int):
    long = ("08:00:00", "ben", "we meet at the station"), ("08:00:09", "ann", "at the usual platform")
    read(opened, irc(*long), "#trip.log")
    counts = second(opened, telegram(*moved(minutes, *long)))
    assert (counts.new, counts.same, counts.unsure) == (2, 0, 0)


def test_an_edited_text_is_named_and_not_folded(opened: Home):
    read(opened, irc(("10:00:05", "ben", "we meet at teh station"), ("10:00:09", "ben", "no")), "#trip.log")
    counts = second(
        opened, telegram(("10:00:05", "ben", "we meet at the station"), ("10:00:09", "ben", "yes"))
    )
    assert (counts.new, counts.same, reasons(counts)) == (2, 0, ["edited"])


def test_chats_of_one_import_are_not_compared_with_each_other(opened: Home):
    n = read(opened, irc(("09:00:00", "zoe", "hello")), "#trip.log").chats[0].n
    lines = [(f"10:{n // 60:02}:{n % 60:02}", "ben", f"this is number {n}") for n in range(700)]
    chats = [json.loads(telegram(*lines)) | {"id": number} for number in (1, 2)]
    account = json.dumps({"about": "", "chats": {"about": "", "list": chats}})
    source = Source(BytesIO(account.encode()), "result.json")
    counts = opened.import_chat(source, into=n).chats
    assert [(one.new, one.same, one.unsure) for one in counts] == [(700, 0, 0)] * 2


def test_a_week_with_too_many_messages_is_not_compared(opened: Home, monkeypatch: pytest.MonkeyPatch):
    read(opened, irc(*TALK), "#trip.log")
    monkeypatch.setattr(limits, "COMPARED_MAX", 2)
    counts = second(opened, telegram(*TALK))
    assert (counts.new, counts.same, reasons(counts)) == (3, 0, ["busy"] * 3)


def test_weeks_are_read_again_where_few_are_held(opened: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "COMPARED_MAX", 4)
    days = [f"2020-0{1 + n % 3}-1{n % 7}T10:00:0{n % 9} <ann> day {n}\n" for n in range(60)]
    n = read(opened, "".join(days), "#trip.log").chats[0].n
    counts = read(opened, "".join(days).replace("day", "day "), "#other.log", into=n).chats[0]
    assert (counts.new, counts.same + counts.unsure) == (counts.unsure, 60)


@pytest.mark.parametrize(
    ("line", "unsure"),
    [
        (("10:00:00", "zoe", "shall we go?"), 1),  # a telling text by somebody who is perhaps ann
        (("10:00:30", "zoe", "yes"), 0),
        (("11:00:30", "ben", "yes"), 0),
        (("10:00:30", "ben", "yess"), 0),
    ],
)
def test_other_author_time_or_text_is_another_message(known: Home, line: tuple[str, str, str], unsure: int):
    counts = second(known, telegram(line))
    assert (counts.new, counts.same, counts.unsure) == (1, 0, unsure)


def test_blanks_and_unicode_form_do_not_count(opened: Home):
    read(opened, irc(("10:00:30", "ben", "gr\u00fcn  tea")), "#trip.log")
    assert second(opened, telegram(("10:00:30", "Ben", "\u200egru\u0308n tea\n"))).same == 1


def test_a_later_second_import_finds_what_was_said_over_a_year(opened: Home):
    lines = [(f"{n % 24:02}:10:0{n % 9}", "ann", f"x {n}") for n in range(60)]
    days = [f"2020-{1 + n // 6:02}-{1 + n % 28:02}" for n in range(60)]
    text = "".join(
        f"{day}T{time} <{name}> {said}\n" for day, (time, name, said) in zip(days, lines, strict=True)
    )
    n = read(opened, text, "#trip.log").chats[0].n
    again = text.replace("x ", "x  ")  # the same to a reader, but no longer the same line
    counts = read(opened, again, "#other.log", into=n).chats[0]
    assert (counts.new, counts.same) == (0, 60)


def test_a_dry_run_says_the_same_and_writes_nothing(known: Home):
    counts = second(known, telegram(("10:00:30", "ben", "yes"), ("10:05:00", "ben", "new")), dry_run=True)
    assert (counts.new, counts.known, counts.same) == (1, 1, 1)
    assert len(said(known)) == 3


def test_an_import_into_a_conversation_never_folds_with_itself(opened: Home):
    conversation = opened.new("trip").n
    lines = [("10:00:30", "ben", "ok")] + [
        (f"10:{n // 60 % 60:02}:{n % 60:02}", "ann", f"x {n}") for n in range(3 * _STEP)
    ]
    text = telegram(*lines, ("10:00:30", "ben", "ok"))
    counts = opened.import_chat(Source(BytesIO(text.encode()), "result.json"), into=conversation).chats[0]
    assert (counts.new, counts.same) == (len(lines) + 1, 0)


def test_more_than_a_window_is_matched_in_order(opened: Home):
    lines = [(f"10:{n // 60 % 60:02}:{n % 60:02}", "ann", f"x {n}") for n in range(3 * _STEP + 7)]
    read(opened, irc(*lines), "#trip.log")
    counts = second(opened, telegram(*lines))
    assert (counts.new, counts.same, counts.unsure) == (0, len(lines), 0)


# -- views of one conversation that each lost something ---------------------------------------

_SAID = st.tuples(
    st.integers(0, 240), st.sampled_from(["ann", "ben"]), st.sampled_from(["ok", "no", "a longer text"])
)


def at(seconds: int) -> str:
    return f"10:{seconds // 60:02}:{seconds % 60:02}"


@settings(max_examples=40, deadline=None)
@given(
    talk=st.lists(_SAID, max_size=14),
    lost=st.tuples(st.sets(st.integers(0, 13)), st.sets(st.integers(0, 13))),
    to_a_minute=st.booleans(),
    late_s=st.sampled_from([0, 0, 0, 1, 60, 3600]),
    edited=st.sets(st.integers(0, 13), max_size=2),
)
def test_nothing_distinct_is_ever_folded_away(
    tmp_path_factory: pytest.TempPathFactory,
    talk: list[tuple[int, str, str]],
    lost: tuple[set[int], set[int]],
    to_a_minute: bool,
    late_s: int,
    edited: set[int],
):
    """Each message of each of two exports has one of its own on the screen that says what it says."""
    talk.sort(key=lambda one: one[0])
    one = [(at(t), who, text) for n, (t, who, text) in enumerate(talk) if n not in lost[0]]
    other = [
        (
            at(t + late_s) if late_s < 3600 else f"11{at(t)[2:]}",
            who,
            text + (" indeed" if n in edited else ""),
        )
        for n, (t, who, text) in enumerate(talk)
        if n not in lost[1]
    ]
    if not one or not other:
        return
    with Home(tmp_path_factory.mktemp("folding") / "home", person="me") as home:
        n = read(home, irc(*one), "#trip.log").chats[0].n
        text = whatsapp(*other) if to_a_minute else telegram(*other)
        counts = read(home, text, "chat", into=n).chats[0]
        shown = list(home.messages(n))
        assert len(shown) == len(one) + counts.new
        assert counts.new + counts.same == len(other)
        assert counts.unsure <= counts.new
        for lines, is_rough in ((one, False), (other, to_a_minute)):
            for who, what in {(who, what) for _, who, what in lines}:
                times = [m.time_ms // 1000 for m in shown if (m.author.name, m.text) == (who, what)]
                wanted = [_seconds(time) for time, *said in lines if said == [who, what]]
                assert _have_each_their_own(wanted, times, is_rough)


def _seconds(time: str) -> int:
    return START_S + sum(int(part) * of for part, of in zip(time.split(":"), (3600, 60, 1), strict=True))


def _have_each_their_own(wanted: list[int], there: list[int], is_rough: bool) -> bool:
    """Whether each time has one of those on the screen to itself: in its minute, or a second off at most."""
    left = sorted(there)
    for time in sorted(wanted):
        fits = [t for t in left if (t // 60 == time // 60 if is_rough else abs(t - time) <= 1)]
        if not fits:
            return False
        left.remove(fits[0])
    return True


PAIRS = [
    ("rust.0", "telegram/rust.0.result.json", 1179, 0),
    ("stripe.0", "whatsapp/stripe.0.ios.txt", 1200, 0),
    ("mediawiki.0", "whatsapp/mediawiki.0.android.txt", 1174, 0),
    ("rust.1", "signal/rust.1.data.json", 1197, 0),
    # Addresses cannot have all that nicks have: who wrote 20 of these is not known to be the same.
    ("ubuntu-meeting.0", "mbox/ubuntu-meeting.0.mbox", 1101, 20),
]


@pytest.mark.corpus
@pytest.mark.parametrize(("log", "container", "same", "others"), PAIRS, ids=[pair[0] for pair in PAIRS])
@pytest.mark.parametrize("turned", [False, True])
def test_a_real_chat_in_two_containers_is_one(
    opened: Home, corpus: Path, log: str, container: str, same: int, others: int, *, turned: bool
):
    files = [corpus / f"irc-new-domains/{log}.ascii.txt", corpus / "derived" / container]
    reports: list[ChatReport] = []
    for file in reversed(files) if turned else files:
        with file.open("rb") as stream:
            hints = Hints(date_order="mdy" if "ios" in file.name else "dmy")
            into = reports[0].n if reports else None
            reports += opened.import_chat(Source(stream, file.name, hints=hints), into=into).chats
    first, counts = reports
    assert counts.same == same
    # The log also has those who came and went, and what they said without words.
    assert counts.new == (counts.messages + counts.events - same if turned else others)
    assert {one.reason for one in counts.unsure_at} <= {"name"}
    assert opened.status(first.n)[0].messages == first.new + counts.new
