"""Events of a Matrix room: what each becomes."""

from __future__ import annotations

from typing import Any

import pytest

from mlog.formats import File, Item, Record, Skipped
from mlog.formats.identity import of_id
from mlog.formats.matrix_events import Known, Room
from mlog.log.bodies import Kind

KEY = "matrix:!tea:example.org"
ANN, BEN = "@ann:example.org", "@ben:example.org"
AT = 1_600_000_000_000


def event(kind: str, content: dict[str, Any], own_id: str = "$1", **fields: Any) -> dict[str, Any]:
    base = {"type": kind, "sender": ANN, "event_id": own_id, "origin_server_ts": AT, "content": content}
    return base | fields


def said(body: str, own_id: str = "$1", *, fields: dict[str, Any] | None = None, **content: Any):
    return event("m.room.message", {"msgtype": "m.text", "body": body} | content, own_id, **(fields or {}))


def member(who: str, content: dict[str, Any], before: dict[str, Any] | None = None, **fields: Any):
    unsigned = {"prev_content": before} if before else {}
    return event("m.room.member", content, state_key=who, unsigned=unsigned, **fields)


def items(*events: dict[str, Any], path: str = "") -> list[Item]:
    room = Room(KEY, Known(), lambda _body, _kind, _time: path)
    return [item for at, one in enumerate(events, start=1) for item in room.items(one, at)]


def records(*events: dict[str, Any], path: str = "") -> list[Record]:
    return [item for item in items(*events, path=path) if isinstance(item, Record)]


def mid(own_id: str):
    return of_id(KEY, own_id)


def test_message_is_known_by_room_and_event_and_named_by_the_membership_before_it():
    joined, message = records(
        member(ANN, {"membership": "join", "displayname": "Ann"}, own_id="$0"), said("tea?")
    )
    assert (joined.kind, joined.text) == (Kind.JOIN, "Ann joined")
    assert message == Record(
        kind=Kind.MESSAGE,
        mid=mid("$1"),
        author="Ann",
        text="tea?",
        time_ms=AT,
        position=2,
        uid=f"matrix:{ANN}",
    )


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        ({"msgtype": "m.notice", "body": "beep"}, Kind.NOTICE, "beep"),
        ({"msgtype": "m.emote", "body": "waves"}, Kind.ACTION, "waves"),
        ({"msgtype": "m.future", "body": "text all the same"}, Kind.MESSAGE, "text all the same"),
        (
            {"msgtype": "m.location", "body": "at the pier", "geo_uri": "geo:1,2"},
            Kind.MESSAGE,
            "at the pier\n[location: geo:1,2]",
        ),
    ],
)
def test_kinds_of_messages(content: dict[str, Any], kind: Kind, text: str):
    (record,) = records(event("m.room.message", content))
    assert (record.kind, record.text) == (kind, text)


@pytest.mark.parametrize(
    "body",
    [
        "> <@ben:example.org> one\n> two\n\nanswer",
        "> * <@ben:example.org> waves\n\nanswer",
        "answer",
    ],
)
def test_an_answer_refers_and_its_quotation_goes(body: str):
    (record,) = records(said(body, "$1", **{"m.relates_to": {"m.in_reply_to": {"event_id": "$0"}}}))
    assert (record.text, record.to) == ("answer", (mid("$0"),))


def test_what_quotes_without_answering_stays_as_it_is():
    assert records(said("> words\n\nmine"))[0].text == "> words\n\nmine"
    assert records(said("> <x> words"))[0].text == "> <x> words"


@pytest.mark.parametrize(("falling_back", "to"), [(True, "$root"), (False, "$0")])
def test_a_thread_answers_the_message_that_is_meant_else_its_first(falling_back: bool, to: str):
    relation = {
        "rel_type": "m.thread",
        "event_id": "$root",
        "is_falling_back": falling_back,
        "m.in_reply_to": {"event_id": "$0"},
    }
    assert records(said("x", "$1", **{"m.relates_to": relation}))[0].to == (mid(to),)


def test_edits_are_edits_whether_they_stand_alone_or_in_the_message():
    new = {"msgtype": "m.text", "body": "two"}
    relation = {"rel_type": "m.replace", "event_id": "$1"}
    alone = said("* two", "$2", **{"m.new_content": new, "m.relates_to": relation})
    bundled = {"m.relations": {"m.replace": {"event_id": "$2", "origin_server_ts": AT + 1}}}
    inside = said("two", fields={"unsigned": bundled})
    old, edit = records(said("one"), alone)
    assert (old.text, edit.kind, edit.text, edit.to, edit.mid) == (
        "one",
        Kind.EDIT,
        "two",
        (old.mid,),
        mid("$2"),
    )
    shown, again = records(inside)
    assert (shown.mid, again.kind, again.text, again.to, again.mid, again.time_ms) == (
        mid("$1"),
        Kind.EDIT,
        "two",
        (mid("$1"),),
        mid("$2"),
        AT + 1,
    )


def test_reactions_name_who_reacted_and_those_of_nobody_are_reported():
    relation = {"rel_type": "m.annotation", "event_id": "$1", "key": "👍"}
    counted = {"m.relations": {"m.annotation": {"chunk": [{"type": "m.reaction", "key": "🎉", "count": 2}]}}}
    found = items(
        said("x", fields={"unsigned": counted}),
        event("m.reaction", {"m.relates_to": relation}, "$2", sender=BEN),
        event("m.reaction", {}, "$3"),
    )
    reaction = found[2]
    assert isinstance(reaction, Record)
    assert (reaction.kind, reaction.text, reaction.to, reaction.mid, reaction.author) == (
        Kind.REACTION,
        "👍",
        (mid("$1"),),
        mid("$2"),
        BEN,
    )
    reasons = [item.reason for item in found if isinstance(item, Skipped)]
    assert reasons == [
        "2 reactions 🎉: the export does not say whose",
        "a reaction that was taken back",
    ]


def test_erased_messages_are_erased_and_the_erasure_is_an_event_that_refers():
    because = {"unsigned": {"redacted_because": {"type": "m.room.redaction"}}}
    gone, empty, erasure = records(
        event("m.room.message", {}, "$1", **because),
        event("m.room.message", {}, "$2"),
        event("m.room.redaction", {"reason": "wrong room"}, "$3", redacts="$1"),
    )
    assert (gone.erased, gone.text, gone.mid, empty.erased) == (True, "", mid("$1"), True)
    assert (erasure.kind, erasure.text, erasure.to) == (
        Kind.EVENT,
        f"{ANN} erased a message: wrong room",
        (mid("$1"),),
    )


@pytest.mark.parametrize(
    "locked",
    [
        event("m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}),
        event("m.room.message", {"msgtype": "m.bad.encrypted", "body": "** Unable to decrypt **"}),
    ],
)
def test_what_could_not_be_decrypted_is_kept_and_counted_and_leaves_its_place_free(locked: dict[str, Any]):
    skipped, kept = items(locked)
    assert isinstance(skipped, Skipped)
    assert "could not be decrypted" in skipped.reason
    assert isinstance(kept, Record)
    assert (kept.kind, kept.text) == (Kind.EVENT, f"{ANN}: [could not be decrypted]")
    assert kept.mid != mid("$1")


@pytest.mark.parametrize(
    ("content", "name", "text_absent", "text_here"),
    [
        ({"msgtype": "m.image", "body": "a.jpg"}, "a.jpg", "[image: a.jpg]", ""),
        (
            {"msgtype": "m.file", "body": "look", "filename": "a.pdf"},
            "a.pdf",
            "[file: a.pdf]\nlook",
            "look",
        ),
        ({"msgtype": "m.video", "body": "../../a.mp4"}, "a.mp4", "[video: ../../a.mp4]", ""),
        ({"msgtype": "m.audio"}, "audio", "[audio: audio]", ""),
    ],
)
def test_a_file_is_marked_in_the_text_only_where_it_is_not_there(
    content: dict[str, Any], name: str, text_absent: str, text_here: str
):
    info = {"info": {"mimetype": "x/y", "size": 3}}
    (absent,) = records(event("m.room.message", content | info))
    (here,) = records(event("m.room.message", content | info), path="images/a")
    assert (absent.text, here.text) == (text_absent, text_here)
    assert absent.files == (File(name=name, type="x/y", size=3),)
    assert here.files == (File(name=name, type="x/y", size=3, path="images/a"),)


def test_a_sticker_and_a_poll_are_messages():
    sticker = event("m.sticker", {"body": "a cup"})
    text = [{"body": "milk?"}]
    poll = {"question": {"m.text": text}, "answers": [{"m.text": [{"body": "yes"}]}]}
    old = {
        "question": {"body": "milk?", "org.matrix.msc1767.text": "milk?"},
        "answers": [{"org.matrix.msc1767.text": "yes"}],
    }
    texts = [
        record.text
        for record in records(
            sticker,
            event("m.poll.start", {"m.poll": poll}, "$2"),
            event("org.matrix.msc3381.poll.start", {"org.matrix.msc3381.poll.start": old}, "$3"),
        )
    ]
    assert texts == ["[sticker: a cup]", "[poll: milk?]\n- yes", "[poll: milk?]\n- yes"]


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (member(BEN, {"membership": "invite"}), Kind.EVENT, f"{ANN} invited {BEN}"),
        (member(ANN, {"membership": "leave"}, {"membership": "join"}), Kind.PART, f"{ANN} left"),
        (
            member(BEN, {"membership": "leave", "reason": "spam"}, {"membership": "join"}),
            Kind.PART,
            f"{ANN} removed {BEN}: spam",
        ),
        (member(BEN, {"membership": "ban"}), Kind.PART, f"{ANN} banned {BEN}"),
        (
            member(BEN, {"membership": "leave"}, {"membership": "ban"}),
            Kind.EVENT,
            f"{ANN} lifted the ban of {BEN}",
        ),
        (
            member(ANN, {"membership": "leave"}, {"membership": "invite"}),
            Kind.EVENT,
            f"{ANN} declined the invitation",
        ),
        (
            member(
                ANN,
                {"membership": "join", "displayname": "Anna"},
                {"membership": "join", "displayname": "Ann"},
            ),
            Kind.RENAME,
            "Ann is now known as Anna",
        ),
        (event("m.room.name", {"name": "Tea"}), Kind.EVENT, f"{ANN} changed the name of the room to 'Tea'"),
        (event("m.room.topic", {}), Kind.EVENT, f"{ANN} removed the topic of the room"),
        (event("m.room.create", {"room_version": "10"}), Kind.EVENT, f"{ANN} created the room"),
        (event("org.example.new", {"cups": 2}), Kind.EVENT, f"{ANN} org.example.new cups 2"),
    ],
)
def test_what_happens_to_the_room_is_told_in_sentences(change: dict[str, Any], kind: Kind, text: str):
    (record,) = records(change)
    assert (record.kind, record.text) == (kind, text)


def test_events_without_any_id_are_told_apart_by_counting():
    bare = {name: value for name, value in said("x").items() if name != "event_id"}
    first, second = records(bare, bare)
    assert first.mid != second.mid
