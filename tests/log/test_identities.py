"""Identities: the latest word on each identity counts, in whatever order the entries come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlog.log.bodies import Alias
from mlog.log.identities import Identity, WhoIsWho, folded_name, identity_from, identity_of
from mlog.log.ids import EntryId
from mlog.log.store import Position

IRC = Identity("irc", "", "ann")
TEL = Identity("signal", "tel:+491", "")


def at(rank: int, last: int = 0) -> Position:
    return Position(rank, EntryId(bytes(31) + bytes([last])))


def test_identities_of_one_name_are_one_person():
    known = WhoIsWho(
        [
            (at(1), Alias(format="irc", by="ann", person="Ann")),
            (at(2), Alias(format="signal", uid="tel:+491", by="whoever", person="Ann")),
        ]
    )
    assert list(known) == ["Ann"]
    assert known.by_name() == {"Ann": {IRC, TEL}}
    assert known.name_of(Identity("irc", "", "ben")) == ""


def test_the_latest_word_counts_and_an_empty_one_takes_back():
    said = [(at(1), Alias(format="irc", by="ann", person="Ann")), (at(1, 1), Alias(format="irc", by="ann"))]
    assert not list(WhoIsWho(said))
    assert list(WhoIsWho([*said, (at(2), Alias(format="irc", by="ann", person="Anna"))])) == ["Anna"]


def test_uid_counts_before_the_name_and_mail_is_one_program():
    assert identity_of("signal", "tel:+491", "Ann") == TEL
    assert len({identity_of(name, "mailto:a@x", "") for name in ("mbox", "eml", "maildir")}) == 1
    assert identity_of("", "", "Ann") == Identity("mlog", "", "Ann")
    assert identity_of("meta-export", "", "Ann") == identity_of("meta", "", "Ann")


def test_identities_are_typed_as_program_and_what_it_knows():
    assert (str(TEL), str(IRC)) == ("signal:+491", "irc:ann")
    assert str(Identity("mail", "mailto:ann@x", "")) == "mail:ann@x"
    assert str(Identity("slack", "slack:U1", "")) == "slack:U1"
    assert TEL.is_called("signal:+491")
    assert TEL.is_called("TEL:+491")
    assert not TEL.is_called("sms:+491")
    assert not IRC.is_called("")


def test_names_are_compared_as_people_read_them():
    assert folded_name(" ÅNN  Lee") == folded_name("A\u030ann lee")


_aliases = st.builds(
    Alias,
    format=st.sampled_from(["irc", "mbox"]),
    by=st.sampled_from("ab"),
    person=st.sampled_from(["", "A", "B"]),
)


@given(
    st.lists(_aliases, max_size=8).flatmap(
        lambda said: st.tuples(st.just(said), st.permutations(range(len(said))))
    )
)
def test_order_of_arrival_changes_nothing(drawn: tuple[list[Alias], list[int]]):
    said, order = drawn
    placed = [(at(n // 2, n % 2), one) for n, one in enumerate(said)]
    one, other = WhoIsWho(placed), WhoIsWho([placed[n] for n in order])
    assert list(one) == list(other)
    assert one.by_name() == other.by_name()


def test_an_identity_is_read_back_as_it_is_written():
    programs = {"signal", "irc", "mail", "telegram", "mlog"}
    for one in (
        TEL,
        IRC,
        Identity("mail", "mailto:ann@x", ""),
        Identity("telegram", "telegram:user12", ""),
        Identity("telegram", "", "Ann Lee"),
        Identity("irc", "", "12345"),
    ):
        assert identity_from(str(one), programs) == one
    assert identity_from("ann", programs) is None
    assert identity_from("irc:", programs) is None
    assert identity_from("http://x", programs) is None
