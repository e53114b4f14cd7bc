"""The vectors of docs/vectors are what the code makes, what it accepts, and what it refuses."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from mlog import errors, limits
from mlog.formats import identity
from mlog.log import bodies, crypto, entry, ids, receipts
from mlog.log.crypto import EpochKeys, LogKeys, Vault, wrap_info
from mlog.log.entry import Header, Sealed
from mlog.log.ids import DeviceId, EntryId, MessageId
from mlog.log.merkle import log_root, segment_digest
from mlog.log.message_fold import chat_target
from mlog.log.phrase import Phrase, parse_phrase
from mlog.log.private_change import parse_change
from mlog.log.private_document import Candidate, PrivateDocument, actor_of
from mlog.log.reading import chain_name
from mlog.log.receipts import Statement
from mlog.log.replica import Replica
from mlog.log.store import Digest, TimelineQuery
from mlog.log.verify import Progress, verify_log
from mlog.protocol import codes, marks, pairing, recovering, segments, wire
from mlog.protocol.sketch import CELL_SIZE, Peeler, Sketcher, decode_short_ids, encode_short_ids
from mlog.protocol.vector import chain_tag, decode_ranges, decode_vector, encode_ranges, encode_vector

_REPO = Path(__file__).resolve().parents[2]
_FOLDER = _REPO / "docs" / "vectors"
_FILES = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(_FOLDER.glob("*.json"))}


def _load_script() -> ModuleType:
    path = str(_REPO / "scripts" / "vectors")
    loader = importlib.machinery.SourceFileLoader("vectors_script", path)
    spec = importlib.util.spec_from_file_location("vectors_script", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


_SCRIPT = _load_script()


def _cases(name: str, *path: str) -> list[Any]:
    found = _FILES[name]
    for key in path:
        found = found[key]
    return [pytest.param(case, id=f"{n}-{case.get('note', '')[:40]}") for n, case in enumerate(found)]


def _refused(case: dict[str, Any], call: Callable[[], object]) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        call()
    assert type(caught.value).__name__ == case["error"]


def _body_bytes(body: str | dict[str, Any], *, fewer: int = 0) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if "bytes" in body:
        return bytes.fromhex(body["bytes"])
    return (body["start"] + body["fill"] * (body["count"] - fewer) + body["end"]).encode()


def _log_keys(file: dict[str, Any]) -> LogKeys:
    keys = LogKeys(bytes.fromhex(file["log_secret"]))
    for number, secret in file["epochs"].items():
        keys.add_epoch(EpochKeys(int(number), bytes.fromhex(secret)))
    return keys


# -- the files -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def remade() -> dict[str, Any]:
    return _SCRIPT.make()


def test_the_script_makes_every_file_and_no_other(remade: dict[str, Any]) -> None:
    assert sorted(remade) == sorted(path.name for path in _FOLDER.iterdir())


@pytest.mark.parametrize("name", _FILES)
def test_the_script_makes_the_file_again(name: str, remade: dict[str, Any]) -> None:
    assert _SCRIPT.text_of(remade[name]) == (_FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", _FILES)
def test_each_invalid_vector_says_what_it_catches(name: str) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "error" in value:
                assert value["catches"]
                assert value["note"]
                assert value["error"] in errors.__all__
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(_FILES[name])


# -- names and keys --------------------------------------------------------------------------


@pytest.mark.parametrize("case", _cases("weeks.json", "valid"))
def test_week(case: dict[str, Any]) -> None:
    assert ids.week_of(case["time_ms"]) == case["week"]


_RULES: dict[str, Callable[..., bytes]] = {
    "entry": lambda id_: ids.message_id(EntryId(bytes.fromhex(id_))),
    "id": identity.of_id,
    "line": identity.of_line,
    "again": lambda first, nth: identity.again(MessageId(bytes.fromhex(first)), nth),
    "part": lambda first, nth: identity.part(MessageId(bytes.fromhex(first)), nth),
    "chat": chat_target,
}


@pytest.mark.parametrize("case", _cases("message_ids.json", "valid"))
def test_message_id(case: dict[str, Any]) -> None:
    assert _RULES[case["rule"]](*case["fields"]).hex() == case["message_id"]


@pytest.mark.parametrize("case", _cases("keys.json", "logs"))
def test_keys_of_a_log(case: dict[str, Any]) -> None:
    keys = LogKeys(bytes.fromhex(case["secret"]))
    assert keys.topic.hex() == case["topic"]
    assert keys.epochs[0].secret.hex() == case["epoch_0"]
    assert keys.mac(bytes.fromhex(case["mac_input"])).hex() == case["mac"]


@pytest.mark.parametrize("case", _cases("keys.json", "epochs"))
def test_keys_of_an_epoch(case: dict[str, Any]) -> None:
    epoch, salt = EpochKeys(0, bytes.fromhex(case["secret"])), bytes.fromhex(case["salt"])
    assert crypto.commitment(epoch.secret).hex() == case["commitment"]
    assert epoch.tag(salt).hex() == case["tag"]
    assert epoch.header_key(salt).hex() == case["header_key"]
    assert epoch.outline.hex() == case["outline"]
    assert epoch.body_key(salt, outlined=False).hex() == case["body_key"]
    assert epoch.body_key(salt, outlined=True).hex() == case["outline_body_key"]
    outlined = EpochKeys(0, b"", epoch.outline)
    assert outlined.tag(salt) == epoch.tag(salt)
    assert outlined.header_key(salt) == epoch.header_key(salt)
    assert outlined.signature_key(salt) == epoch.signature_key(salt)
    assert outlined.body_key(salt, outlined=True) == epoch.body_key(salt, outlined=True)
    assert epoch.signature_key(salt).hex() == case["signature_key"]


@pytest.mark.parametrize("case", _cases("keys.json", "devices"))
def test_keys_of_a_device(case: dict[str, Any]) -> None:
    seeds = (bytes.fromhex(case[name]) for name in ("signing_seed", "noise_seed", "hpke_seed"))
    device = crypto.DeviceKeys(*seeds)
    assert (device.id.hex(), device.noise_public.hex()) == (case["id"], case["noise_public"])
    assert device.hpke_public.hex() == case["hpke_public"]


@pytest.mark.parametrize("case", _cases("keys.json", "vault", "valid"))
def test_vault_seals_and_opens(case: dict[str, Any]) -> None:
    vault, secret = Vault(bytes.fromhex(case["storage_key"])), bytes.fromhex(case["secret"])
    assert vault.seal(case["label"], secret).hex() == case["sealed"]
    assert vault.open(case["label"], bytes.fromhex(case["sealed"])) == secret


@pytest.mark.parametrize("case", _cases("keys.json", "vault", "invalid"))
def test_vault_refuses(case: dict[str, Any]) -> None:
    vault = Vault(bytes.fromhex(case["storage_key"]))
    _refused(case, lambda: vault.open(case["label"], bytes.fromhex(case["sealed"])))


@pytest.mark.parametrize("case", _cases("wraps.json", "valid"))
def test_wrapped_secret_opens(case: dict[str, Any]) -> None:
    info = wrap_info(
        ids.Topic(bytes.fromhex(case["topic"])),
        bytes.fromhex(case["author"]),
        case["epoch"],
        bytes.fromhex(case["recipient"]),
    )
    assert info.hex() == case["info"]
    device = crypto.DeviceKeys(bytes(32), bytes(32), bytes.fromhex(case["hpke_seed"]))
    assert crypto.unwrap(device, bytes.fromhex(case["sealed"]), info).hex() == case["secret"]


@pytest.mark.parametrize("case", _cases("wraps.json", "invalid"))
def test_wrapped_secret_is_refused(case: dict[str, Any]) -> None:
    device = crypto.DeviceKeys(bytes(32), bytes(32), bytes.fromhex(case["hpke_seed"]))
    _refused(case, lambda: crypto.unwrap(device, bytes.fromhex(case["sealed"]), bytes.fromhex(case["info"])))


def _verify(case: dict[str, Any]) -> None:
    crypto.verify_signature(
        DeviceId(bytes.fromhex(case["key"])),
        "entry",
        bytes.fromhex(case["message"]),
        bytes.fromhex(case["signature"]),
    )


@pytest.mark.parametrize("case", _cases("signatures.json", "valid"))
def test_signature_is_valid(case: dict[str, Any]) -> None:
    _verify(case)


@pytest.mark.parametrize("case", _cases("signatures.json", "invalid"))
def test_signature_is_refused(case: dict[str, Any]) -> None:
    _refused(case, lambda: _verify(case))


# -- entries and bodies ----------------------------------------------------------------------


@pytest.mark.parametrize("case", _cases("padding.json", "valid"))
def test_padding(case: dict[str, Any]) -> None:
    assert entry.padded_size(case["size"]) == case["padded"]


def _header(case: dict[str, Any]) -> Header:
    plain = case["header"]
    return Header(
        plain["kind"],
        DeviceId(bytes.fromhex(plain["device"])),
        ids.Incarnation(bytes.fromhex(plain["incarnation"])),
        plain["seq"],
        EntryId(bytes.fromhex(plain["prev"])),
        plain["time_ms"],
        plain["body_size"],
        tuple(EntryId(bytes.fromhex(parent)) for parent in plain["parents"]),
        None if plain["mid"] is None else MessageId(bytes.fromhex(plain["mid"])),
    )


@pytest.mark.parametrize("case", _cases("entries.json", "valid"))
def test_entry_is_made(case: dict[str, Any]) -> None:
    file = _FILES["entries.json"]
    keys, body = _log_keys(file), _body_bytes(case["body"])
    header = _header(case)
    assert header.encode().hex() == case["header_bytes"]
    sealed = entry.seal_entry(keys, keys.epochs[case["epoch"]], case["week"], header, body)
    assert (sealed.outer.hex(), sealed.id.hex()) == (case["outer"], case["id"])
    assert sealed.body is not None
    assert case["sealed_body"] in (None, sealed.body.hex())
    seed = bytes.fromhex(file["signing_seeds"][case["author"]])
    signed = entry.sign_entry(
        crypto.DeviceKeys(seed, bytes(32), bytes(32)), keys.epochs[case["epoch"]], sealed
    )
    assert signed.signature is not None
    assert signed.signature.hex() == case["sealed_signature"]


@pytest.mark.parametrize("case", _cases("entries.json", "valid"))
def test_entry_opens(case: dict[str, Any]) -> None:
    keys, outer, id_ = (
        _log_keys(_FILES["entries.json"]),
        bytes.fromhex(case["outer"]),
        bytes.fromhex(case["id"]),
    )
    assert entry.entry_id(outer) == id_
    header, epoch = entry.open_header(keys, outer)
    assert header == _header(case)
    entry.verify_entry_signature(
        epoch, header.device, EntryId(id_), outer, bytes.fromhex(case["sealed_signature"])
    )
    if case["sealed_body"] is not None:
        body = entry.open_body(epoch, outer, bytes.fromhex(case["sealed_body"]))
        assert body == _body_bytes(case["body"])
        assert entry.seal_body(epoch, outer, body, header.kind).hex() == case["sealed_body"]
    if header.kind in set(bodies.Kind):
        bodies.decode(header.kind, _body_bytes(case["body"]))


def test_the_valid_entries_have_every_kind() -> None:
    assert {case["header"]["kind"] for case in _FILES["entries.json"]["valid"]} > set(bodies.Kind)


def _open_part(case: dict[str, Any]) -> object:
    keys = _log_keys(_FILES["entries.json"])
    if case["part"] == "header":
        return Header.decode(bytes.fromhex(case["header"]))
    outer = bytes.fromhex(case["outer"])
    if case["part"] == "outer":
        return entry.parse_outer(outer)
    entry.parse_outer(outer)
    if case["part"] == "entry":
        return entry.open_header(keys, outer)
    header, epoch = entry.open_header(keys, outer)
    if case["part"] == "body":
        return entry.open_body(epoch, outer, bytes.fromhex(case["sealed_body"]))
    assert case["part"] == "signature"
    return entry.verify_entry_signature(
        epoch, header.device, entry.entry_id(outer), outer, bytes.fromhex(case["sealed_signature"])
    )


@pytest.mark.parametrize("case", _cases("entries.json", "invalid"))
def test_entry_is_refused(case: dict[str, Any]) -> None:
    _refused(case, lambda: _open_part(case))


@pytest.mark.parametrize(
    "case", [c for c in _cases("entries.json", "invalid") if c.values[0]["part"] != "header"]
)
def test_a_replica_reads_nothing_of_a_refused_entry(case: dict[str, Any]) -> None:
    replica: Replica = _SCRIPT.empty_replica()
    outer = bytes.fromhex(case["outer"])
    body = bytes.fromhex(case["sealed_body"]) if "sealed_body" in case else None
    signature = bytes.fromhex(case["sealed_signature"]) if "sealed_signature" in case else None
    taken = replica.receive(1, [Sealed(EntryId(b""), outer, body, signature)], 0)
    kept = replica.store.scan_unopened(1, 0, 10)
    assert taken.refused or kept
    assert taken.stored == len(kept) == replica.store.next_n() - 1
    assert case["part"] != "outer" or not kept


@pytest.mark.parametrize("case", _cases("bodies.json", "valid"))
def test_body_is_read(case: dict[str, Any]) -> None:
    bodies.decode(case["kind"], case["body"].encode())


@pytest.mark.parametrize("case", _cases("bodies.json", "invalid"))
def test_body_is_refused(case: dict[str, Any]) -> None:
    body = case["body"]
    encoded = bytes.fromhex(body) if isinstance(body, str) else _body_bytes(body)
    _refused(case, lambda: bodies.decode(case["kind"], encoded))
    if isinstance(body, dict):
        bodies.decode(case["kind"], _body_bytes(body, fewer=1))


# -- receipts --------------------------------------------------------------------------------


def _statement(plain: dict[str, Any]) -> Statement:
    values: dict[str, Any] = {k: bytes.fromhex(v) if isinstance(v, str) else v for k, v in plain.items()}
    return Statement(**values)


@pytest.mark.parametrize("case", _cases("receipts.json", "valid"))
def test_receipts_are_made_and_accepted(case: dict[str, Any]) -> None:
    statements = [_statement(plain) for plain in case["statements"]]
    device = crypto.DeviceKeys(bytes.fromhex(case["signing_seed"]), bytes(32), bytes(32))
    assert receipts.sign_statements(device, statements).hex() == case["signature"]
    assert [proof.hex() for proof in receipts.make_receipts(device, statements)] == case["proofs"]
    for proof, statement in zip(case["proofs"], statements, strict=True):
        assert receipts.check_receipt(bytes.fromhex(proof)) == (device.id, statement)


@pytest.mark.parametrize("case", _cases("receipts.json", "invalid"))
def test_receipt_is_refused(case: dict[str, Any]) -> None:
    _refused(case, lambda: receipts.check_receipt(bytes.fromhex(case["proof"])))


# -- view and digests ------------------------------------------------------------------------


def _seen(replica: Replica, names: dict[bytes, str]) -> dict[str, Any]:
    store = replica.store
    query = TimelineQuery(log=1, limit=limits.STORE_ROWS_MAX, kinds=frozenset(), hidden=True)
    rows = store.timeline(query)
    edits = store.rows({row.edit for row in rows if row.edit})
    shown = store.timeline(TimelineQuery(log=1, limit=limits.STORE_ROWS_MAX))
    return {
        "order": [{"name": names[row.id], "rank": row.rank} for row in rows],
        "shown": [names[row.id] for row in shown],
        "hidden": [names[row.id] for row in rows if row.hidden],
        "edited": {names[row.id]: names[edits[row.edit].id] for row in rows if row.edit},
        "erased": [names[row.id] for row in rows if row.body is None],
        "title": store.logs()[0].title,
        "heads": sorted(names[id_] for id_ in store.heads(1)),
    }


@pytest.mark.parametrize("seed", range(40))
def test_view_is_the_same_in_any_order_of_arrival(seed: int) -> None:
    file = _FILES["view.json"]
    arriving, names = list[Sealed](), dict[bytes, str]()
    for vector in file["entries"]:
        outer, body, signature = (
            bytes.fromhex(vector[part]) for part in ("outer", "sealed_body", "sealed_signature")
        )
        arriving.append(Sealed(entry.entry_id(outer), outer, body, signature))
        names[arriving[-1].id] = vector["name"]
    if seed:
        random.Random(seed).shuffle(arriving)
    replica: Replica = _SCRIPT.empty_replica()
    for sealed in arriving:
        assert replica.receive(1, [sealed], 0).stored
    seen = _seen(replica, names)
    assert seen == {key: file[key] for key in seen}
    assert [
        event for event in verify_log(replica, 1, signatures=True) if not isinstance(event, Progress)
    ] == []


@pytest.mark.parametrize("case", _cases("digests.json", "valid"))
def test_digests_and_root(case: dict[str, Any]) -> None:
    digests = [
        segment_digest(
            segment["week"], [(EntryId(bytes.fromhex(e["id"])), e["body"]) for e in segment["entries"]]
        )
        for segment in case["segments"]
    ]
    assert [(d.entries_hash.hex(), d.bodies_hash.hex()) for d in digests] == [
        (segment["entries_hash"], segment["bodies_hash"]) for segment in case["segments"]
    ]
    assert log_root(reversed(digests)).hex() == case["root"]


# -- sketches --------------------------------------------------------------------------------


def _sketcher(ids: list[str]) -> Sketcher:
    sketcher = Sketcher(bytes.fromhex(_FILES["sketch.json"]["key"]))
    sketcher.add(bytes.fromhex("".join(ids)))
    return sketcher


@pytest.mark.parametrize("case", _cases("sketch.json", "short_ids"))
def test_short_id_and_its_cells(case: dict[str, Any]) -> None:
    sketcher = _sketcher([case["id"]])
    for _ in sketcher.extend(limits.SKETCH_CELLS_MAX):
        pass
    cell = bytes.fromhex(case["short_id"]) + bytes([case["check"], 1])
    expected = bytearray(CELL_SIZE * limits.SKETCH_CELLS_MAX)
    for index in case["cells"]:
        expected[CELL_SIZE * index : CELL_SIZE * (index + 1)] = cell
    assert sketcher.encoded(0, limits.SKETCH_CELLS_MAX) == expected


@pytest.mark.parametrize("case", _cases("sketch.json", "differences"))
def test_difference_of_two_sets(case: dict[str, Any]) -> None:
    coder, own = _sketcher(case["ids_there"]), _sketcher(case["ids_here"])
    for _ in coder.extend(len(case["cells"]) // 2 // CELL_SIZE):
        pass
    assert coder.encoded(0, len(case["cells"]) // 2 // CELL_SIZE).hex() == case["cells"]
    peeler = Peeler(own)
    peeler.feed(bytes.fromhex(case["cells"]))
    for _ in peeler.peel():
        pass
    assert peeler.decoded == case["decoded"]
    assert encode_short_ids(peeler.there).hex() == case["there"]
    assert encode_short_ids(peeler.here).hex() == case["here"]


@pytest.mark.parametrize("case", _cases("sketch.json", "invalid_cells"))
def test_cells_are_refused(case: dict[str, Any]) -> None:
    cells = case["cells"]
    encoded = bytes.fromhex(cells if isinstance(cells, str) else cells["fill"] * cells["count"])
    _refused(case, lambda: Peeler(_sketcher([])).feed(encoded))


@pytest.mark.parametrize("case", _cases("sketch.json", "lists"))
def test_list_of_short_ids(case: dict[str, Any]) -> None:
    assert encode_short_ids(reversed(case["short_ids"])).hex() == case["list"]
    assert decode_short_ids(bytes.fromhex(case["list"])) == case["short_ids"]


@pytest.mark.parametrize("case", _cases("sketch.json", "invalid_lists"))
def test_list_of_short_ids_is_refused(case: dict[str, Any]) -> None:
    _refused(case, lambda: decode_short_ids(bytes.fromhex(case["list"])))


# -- messages, vectors, ranges, segments -----------------------------------------------------


def _as_json(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case tuple() | list():
            return [_as_json(part) for part in value]
        case msgspec.Struct():
            return {name: _as_json(getattr(value, name)) for name in value.__struct_fields__}
        case _:
            return value


def _violates(case: dict[str, Any], call: Callable[[bytes], object]) -> None:
    with pytest.raises(errors.ProtocolViolation) as caught:
        call(bytes.fromhex(case["bytes"]))
    assert type(caught.value).__name__ == case["error"]


def test_names_within_a_session() -> None:
    vectors = _FILES["wire.json"]
    binding = bytes.fromhex(vectors["binding"])
    for case in vectors["chain_tags"]:
        device, incarnation = bytes.fromhex(case["device"]), bytes.fromhex(case["incarnation"])
        tag = chain_tag(binding, DeviceId(device), ids.Incarnation(incarnation))
        assert tag.hex() == case["tag"]
    for case in vectors["log_tags"]:
        tag = crypto.keyed_hash(binding, b"log" + bytes.fromhex(case["topic"]), 6)
        assert tag.hex() == case["tag"]


@pytest.mark.parametrize("case", _cases("wire.json", "messages", "valid"))
def test_a_message_is_read_and_made(case: dict[str, Any]) -> None:
    message = wire.decode(bytes.fromhex(case["bytes"]))
    assert type(message).__name__ == case["name"]
    assert _as_json(message) == case["fields"]
    assert message is not None
    assert wire.encode(message).hex() == case["bytes"]


@pytest.mark.parametrize("case", _cases("wire.json", "messages", "read"))
def test_a_message_of_a_later_version_is_read(case: dict[str, Any]) -> None:
    message = wire.decode(bytes.fromhex(case["bytes"]))
    assert (type(message).__name__, _as_json(message)) == (case["name"], case["fields"])


@pytest.mark.parametrize("case", _cases("wire.json", "messages", "ignored"))
def test_a_message_is_ignored(case: dict[str, Any]) -> None:
    assert wire.decode(bytes.fromhex(case["bytes"])) is None


@pytest.mark.parametrize("case", _cases("wire.json", "messages", "invalid"))
def test_a_message_is_refused(case: dict[str, Any]) -> None:
    _violates(case, wire.decode)


@pytest.mark.parametrize("case", _cases("wire.json", "vectors", "valid"))
def test_a_vector_is_read_and_made(case: dict[str, Any]) -> None:
    chains = decode_vector(bytes.fromhex(case["bytes"]))
    assert [
        {"tag": tag.hex(), "first": held.first, "ranges": _as_json(held.ranges)}
        for tag, held in chains.items()
    ] == case["chains"]
    assert encode_vector(chains).hex() == case["bytes"]


@pytest.mark.parametrize("case", _cases("wire.json", "vectors", "invalid"))
def test_a_vector_is_refused(case: dict[str, Any]) -> None:
    _violates(case, decode_vector)


@pytest.mark.parametrize("case", _cases("wire.json", "ranges", "valid"))
def test_ranges_are_read_and_made(case: dict[str, Any]) -> None:
    chains = decode_ranges(bytes.fromhex(case["bytes"]))
    found = [{"tag": tag.hex(), "ranges": _as_json(ranges)} for tag, ranges in chains.items()]
    assert found == case["chains"]
    assert encode_ranges(chains).hex() == case["bytes"]


@pytest.mark.parametrize("case", _cases("wire.json", "ranges", "invalid"))
def test_ranges_are_refused(case: dict[str, Any]) -> None:
    _violates(case, decode_ranges)


@pytest.mark.parametrize("case", _cases("wire.json", "segments", "valid"))
def test_segments_are_read(case: dict[str, Any]) -> None:
    found = segments.decode_segments(bytes.fromhex(case["bytes"]))
    assert [_as_json(list(segment)) for segment in found.values()] == [
        list(segment.values()) for segment in case["segments"]
    ]


@pytest.mark.parametrize("case", _cases("wire.json", "segments", "invalid"))
def test_segments_are_refused(case: dict[str, Any]) -> None:
    _violates(case, segments.decode_segments)


@pytest.mark.parametrize("case", _cases("wire.json", "marks", "valid"))
def test_marks_are_made_and_read(case: dict[str, Any]) -> None:
    key = marks.mark_key(bytes.fromhex(case["binding"]), case["attempt"])
    made = marks.marks_of(
        key,
        [
            Digest(s["week"], s["entries"], 0, bytes.fromhex(s["entries_hash"]), bytes(32))
            for s in case["segments"]
        ],
    )
    assert marks.encode_marks(made).hex() == case["bytes"]
    assert marks.decode_marks(bytes.fromhex(case["bytes"])) == made


@pytest.mark.parametrize("case", _cases("wire.json", "marks", "invalid"))
def test_marks_are_refused(case: dict[str, Any]) -> None:
    _violates(case, marks.decode_marks)


def test_the_worked_bytes_of_a_vector_stand_in_the_protocol() -> None:
    text = (_REPO / "docs" / "protocol.md").read_text(encoding="utf-8")
    worked = text.partition("Worked bytes: a chain with tag")[2].partition("\n\n")[2].splitlines()
    for line, name in zip(worked[:2], ("vectors", "ranges"), strict=True):
        (case,) = (c for c in _FILES["wire.json"][name]["valid"] if c["note"].startswith("the worked bytes"))
        assert case["bytes"] in line.partition("   from")[0].replace(" ", "")


# -- pairing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", _cases("pairing.json", "codes"))
def test_a_code_is_its_words_and_gives_its_key(case: dict[str, Any]) -> None:
    code = codes.parse_code(case["words"])
    assert code.number.to_bytes(9, "big").hex() == case["number"]
    assert code.text == case["words"]
    assert code.shared_key.hex() == case["shared_key"]


@pytest.mark.parametrize("case", _cases("pairing.json", "links"))
def test_a_link_says_what_its_text_says(case: dict[str, Any]) -> None:
    link = codes.decode_link(case["text"])
    assert codes.encode_link(link) == case["text"]
    assert (int(link.type), link.expires_s, link.secret.hex()) == (
        case["type"],
        case["expires_s"],
        case["secret"],
    )
    assert list(link.addresses) == case["addresses"]
    assert link.shared_key.hex() == case["shared_key"]
    assert link.fingerprint.hex() == _FILES["pairing.json"]["fingerprint"]


@pytest.mark.parametrize("case", _cases("pairing.json", "invalid_links"))
def test_a_wrong_link_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(errors.UserError):
        codes.decode_link(case["text"])


def test_words_and_signature_of_a_pairing_are_those_of_the_vector() -> None:
    vectors = _FILES["pairing.json"]
    assert " ".join(codes.shown_words(bytes.fromhex(vectors["binding"]))) == vectors["words"]
    record = {name: bytes.fromhex(value) for name, value in vectors["record"].items()}
    known = pairing.fingerprint(record["device"], record["noise"], record["hpke"])
    assert known.hex() == vectors["fingerprint"]
    crypto.verify_signature(DeviceId(record["device"]), "pairing", record["signed"], record["signature"])


# -- 21: recovery phrase ---------------------------------------------------------------------


@pytest.mark.parametrize("case", _cases("recovery.json", "phrases"))
def test_a_recovery_phrase_gives_its_keys(case: dict[str, Any]) -> None:
    phrase = parse_phrase(case["words"])
    assert phrase.secret.hex() == case["secret"]
    assert " ".join(phrase.words) == case["words"]
    assert [seed.hex() for seed in phrase.keys] == [case["signing"], case["noise"], case["hpke"]]
    assert phrase.keys.id.hex() == case["device"]


@pytest.mark.parametrize("case", _cases("recovery.json", "invalid_phrases"))
def test_words_that_are_no_recovery_phrase_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(errors.UserError):
        parse_phrase(case["words"])


def test_the_handshake_of_a_recovery_is_that_of_the_vector() -> None:
    vectors = _FILES["recovery.json"]["handshake"]
    keys = Phrase(bytes.fromhex(vectors["phrase"])).keys
    e1, _ = (bytes.fromhex(each) for each in vectors["ephemerals"])
    first, second = (bytes.fromhex(each) for each in vectors["messages"])
    channel = recovering.dial(keys, e1, vectors["time_ms"])
    assert channel.start() == first
    channel.receive(second)
    assert channel.carried.hex() == vectors["holder"]
    assert channel.binding.hex() == vectors["binding"]
    assert channel.receive(bytes.fromhex(vectors["frames"][1]["frame"])) == [
        bytes.fromhex(vectors["frames"][1]["message"])
    ]


# -- 20: private state -----------------------------------------------------------------------


@pytest.mark.parametrize("case", _cases("private.json", "valid"))
def test_private_change_is_read(case: dict[str, Any]) -> None:
    change = parse_change(bytes.fromhex(case["change"]))
    assert change.hash.hex() == case["hash"]
    assert change.actor.hex() == case["actor"]
    assert (change.seq, change.start_op) == (case["seq"], case["first_op"])
    assert [dep.hex() for dep in change.deps] == case["deps"]
    for op, expected in zip(change.ops, case["ops"], strict=True):
        assert op.key == expected["key"]
        assert _shown(op.value) == expected["value"]
        assert [{"op": n, "actor": a.hex()} for n, a in op.preds] == expected["replaces"]


@pytest.mark.parametrize("case", _cases("private.json", "invalid"))
def test_private_change_is_refused(case: dict[str, Any]) -> None:
    _refused(case, lambda: parse_change(bytes.fromhex(case["change"])))


def test_private_changes_make_these_values() -> None:
    vectors = _FILES["private.json"]
    document = PrivateDocument()
    changes = [
        Candidate(EntryId(bytes([n]) * 32), bytes.fromhex(case["actor"]), bytes.fromhex(case["change"]))
        for n, case in enumerate(vectors["valid"])
    ]
    assert document.take(changes) == ({}, [])
    assert {key: _shown(value) for key, value in document.values().items()} == vectors["values"]


def test_private_names_of_chains() -> None:
    actor, name = _FILES["private.json"]["actor"], _FILES["private.json"]["chain_name"]
    for case, call in ((actor, actor_of), (name, chain_name)):
        device, incarnation = bytes.fromhex(case["device"]), bytes.fromhex(case["incarnation"])
        expected = case.get("actor") or case["name"]
        assert call(DeviceId(device), ids.Incarnation(incarnation)).hex() == expected


def _shown(value: object) -> object:
    return {"bytes": value.hex()} if isinstance(value, bytes) else value
