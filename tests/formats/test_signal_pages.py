"""Signal chats from pages: records, several pages of one chat, and what meets other exports."""

from __future__ import annotations

import io

from mlog.formats import Chat, File, Hints, Item, Record, Skipped, Source, detect, importer
from mlog.formats.detection import claims
from mlog.log.bodies import Kind

from .signal_page import attached, message, page, reacted
from .trees import MemoryTree

AT = 1_704_207_845_000  # 2024-01-02 15:04:05 UTC


def read(data: bytes, tree: MemoryTree | None = None) -> list[Item]:
    source = Source(io.BytesIO(data), "Ann.html", tree=tree, path="Ann (_id7)/Ann.html")
    return list(importer("signal").parse(source))


def records(*messages: str, group: bool = False, tree: MemoryTree | None = None) -> list[Record]:
    return [item for item in read(page(*messages, group=group), tree) if isinstance(item, Record)]


def test_a_page_is_a_chat_that_is_called_as_its_title():
    data = page(message("hi"))
    assert detect(data, "x").name == "signal"
    assert read(data)[0] == Chat(key="signal:ann", title="Ann")
    assert read(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")) == read(data)


def test_in_a_chat_of_two_the_other_is_called_as_the_chat_and_oneself_me():
    here, own, call = records(
        message("hi"), message("ho", kind="outgoing"), message("Missed voice call", kind="status")
    )
    assert (here.author, here.text, here.time_ms, here.kind) == ("Ann", "hi", AT, Kind.MESSAGE)
    assert own.author == "Me"
    assert (call.kind, call.author, call.text) == (Kind.EVENT, "", "Missed voice call")


def test_messages_meet_those_of_the_text_that_the_same_tool_writes():
    text = b"[Jan 02, 2024 15:04:05] <Ann> hi\n"
    of_text = [
        item.mid
        for item in importer("signal").parse(Source(io.BytesIO(text), "Ann.txt"))
        if isinstance(item, Record)
    ]
    assert [record.mid for record in records(message("hi"))] == of_text


def test_in_a_group_the_name_stands_at_the_message():
    (record,) = records(message("hi", name="Ben"), group=True)
    assert record.author == "Ben"


def test_quotations_refer_where_the_words_were_said_and_else_stay():
    quote = '<div class="msg-quote"><span class="msg-name">x</span><pre>{}</pre></div>'
    first, answer, other = records(
        message("tea?"),
        message("yes", before=quote.format("tea?")),
        message("no", before=quote.format("gone\nlong")),
    )
    assert (answer.to, answer.text) == ((first.mid,), "yes")
    assert (other.to, other.text) == ((), "> gone\n> long\nno")


def test_edits_reactions_erasures_and_files_are_what_they_are():
    tree = MemoryTree({"Ann (_id7)/media/a.jpg": b"a", "Ann (_id7)/Ann.html": b""})
    (first, edit, reaction) = records(
        message(
            "two", versions=[message("one", time="Jan 02, 2024 15:00:00")], reactions=[reacted("👍", "Ben")]
        )
    )
    assert (first.text, edit.kind, edit.text, edit.to, edit.time_ms) == (
        "one",
        Kind.EDIT,
        "two",
        (first.mid,),
        AT,
    )
    assert (reaction.kind, reaction.author, reaction.text, reaction.to) == (
        Kind.REACTION,
        "Ben",
        "👍",
        (first.mid,),
    )
    gone, here, absent = records(
        message("This message was deleted.", css="deleted-msg"),
        message("", before=attached("media/a.jpg")),
        message("x", before=attached("media/b.pdf", "b c.pdf")),
        tree=tree,
    )
    assert (gone.erased, gone.text) == (True, "")
    assert here.files == (File(name="a.jpg", type="image/jpeg", path="Ann (_id7)/media/a.jpg", size=1),)
    assert absent.files == (File(name="b c.pdf", type="application/pdf"),)


def test_pages_of_one_chat_are_read_in_their_order_and_answer_across_pages():
    quote = '<div class="msg-quote"><pre>page 0</pre></div>'
    names = ["Ann.html", *(f"Ann_{number}.html" for number in range(1, 12)), "Bea_2.html", "media/x.html"]
    files = {
        f"out/{name}": page(message(f"page {at}", before=quote if at == 10 else ""), title=name[:3])
        for at, name in enumerate(names[:-1])
    }
    tree = MemoryTree(files | {"out/index.html": b"<html></html>"})
    (found,) = claims(tree)
    assert (found.importer.name, list(found.names)) == ("signal-pages", sorted(files))
    items = list(found.importer.parse(tree, found.names, Hints()))
    assert [item for item in items if isinstance(item, Chat)] == [
        Chat(key="signal:ann", title="Ann"),
        Chat(key="signal:bea", title="Bea"),
    ]
    said = [item for item in items if isinstance(item, Record)]
    assert [record.text for record in said] == [f"page {at}" for at in range(13)]
    assert said[10].to == (said[0].mid,)


def test_a_broken_page_an_empty_one_and_a_date_of_another_language_are_reported():
    tree = MemoryTree(
        {
            "a/Ann.html": page(message("hi"))[:-30],
            "a/Bea.html": page(title="Bea"),
            "a/Cat.html": page(message("hi", time="mystery"), title="Cat"),
        }
    )
    (found,) = claims(tree)
    items = list(found.importer.parse(tree, found.names, Hints()))
    assert [(item.file, item.reason) for item in items if isinstance(item, Skipped)] == [
        ("a/Ann.html", "the page breaks off here"),
        ("a/Bea.html", "no message on this page"),
        ("a/Cat.html", "date 'mystery' is not understood: the time is left open"),
    ]
