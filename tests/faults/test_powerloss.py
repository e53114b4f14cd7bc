"""The model of power loss, on recordings made by hand."""

from collections.abc import Callable
from pathlib import Path

from .powerloss import SECTOR_SIZE_BYTES, Image, Recording

SEED = 20_240
SECTOR = SECTOR_SIZE_BYTES


def images_at_end(recording: Recording, count: int = 3_000) -> list[Image]:
    end = len(recording.ops)
    found = [image for image in recording.images(SEED, count) if image.crash == end]
    assert len(found) >= 20
    return found


def one_file(*, synced: bytes) -> tuple[Recording, int]:
    recording = Recording()
    file = recording.create("a")
    recording.write("a", file, 0, synced)
    recording.sync("a", file, folder=False)
    return recording, file


def seen(recording: Recording, what: Callable[[bytes], object]) -> set[object]:
    return {what(image.files["a"]) for image in images_at_end(recording)}


def test_a_synced_write_is_never_lost() -> None:
    recording, _ = one_file(synced=b"x" * 2000)
    assert seen(recording, lambda content: content) == {b"x" * 2000}


def test_unsynced_writes_are_lost_kept_and_reordered() -> None:
    recording, file = one_file(synced=b"..")
    recording.write("a", file, 0, b"1")
    recording.write("a", file, 1, b"2")
    assert seen(recording, lambda content: content) == {b"..", b"1.", b".2", b"12"}


def test_overlapping_writes_arrive_in_their_order() -> None:
    recording, file = one_file(synced=b"." * 300)
    recording.write("a", file, 0, b"1" * 200)
    recording.write("a", file, 100, b"2" * 200)
    one, two, none = b"1" * 100, b"2" * 100, b"." * 100
    assert seen(recording, bytes) == {none * 3, one * 2 + none, none + two * 2, one + two * 2}


def test_a_write_tears_at_sectors_of_the_file_and_nowhere_else() -> None:
    recording, file = one_file(synced=b"." * (4 * SECTOR))
    recording.write("a", file, 100, b"x" * (3 * SECTOR))
    patterns = set()
    for image in images_at_end(recording):
        content = image.files["a"]
        assert content[:100] == b"." * 100
        assert content[100 + 3 * SECTOR :] == b"." * (SECTOR - 100)
        pieces = content[100:SECTOR], content[SECTOR : 2 * SECTOR], content[2 * SECTOR : 3 * SECTOR]
        assert all(len(set(piece)) == 1 for piece in pieces)
        patterns.add("".join(chr(piece[0]) for piece in pieces))
    assert {"...", "xxx", "x..", "..x"} < patterns


def test_a_file_that_grew_may_hold_zeros_or_garbage_where_nothing_arrived() -> None:
    recording, file = one_file(synced=b"")
    recording.write("a", file, 0, b"x" * SECTOR)
    recording.write("a", file, SECTOR, b"y" * SECTOR)
    kinds = seen(
        recording,
        lambda c: ("x" if c[:SECTOR] == b"x" * SECTOR else "0" if not any(c[:SECTOR]) else "?", len(c)),
    )
    assert {("0", 0), ("x", SECTOR), ("x", 2 * SECTOR), ("0", 2 * SECTOR), ("?", 2 * SECTOR)} <= kinds


def test_an_unsynced_truncation_may_not_have_happened() -> None:
    recording, file = one_file(synced=b"x" * 10)
    recording.truncate("a", file, 3)
    assert seen(recording, len) == {3, 10}


def test_a_new_file_may_be_missing_until_its_sync() -> None:
    recording = Recording()
    file = recording.create("a")
    assert {"a" in image.files for image in images_at_end(recording)} == {True, False}
    recording.sync("a", file, folder=False)
    assert {"a" in image.files for image in images_at_end(recording)} == {True}


def test_a_deletion_may_be_undone_until_the_folder_is_synced() -> None:
    recording, file = one_file(synced=b"old")
    recording.delete("a", folder=False)
    assert {image.files.get("a") for image in images_at_end(recording)} == {b"old", None}
    file = recording.create("a")
    assert {image.files.get("a") for image in images_at_end(recording)} == {b"old", None, b""}
    recording.sync("a", file, folder=False)
    assert {image.files.get("a") for image in images_at_end(recording)} == {b""}
    recording.delete("a", folder=True)
    assert {image.files.get("a") for image in images_at_end(recording)} == {None}


def test_the_first_sync_of_a_journal_makes_earlier_deletions_durable() -> None:
    recording, _ = one_file(synced=b"old")
    recording.delete("a", folder=False)
    recording.sync("b-wal", recording.create("b-wal"), folder=True)
    assert {image.files.get("a") for image in images_at_end(recording)} == {None}


def test_what_was_there_before_is_in_every_image() -> None:
    recording = Recording()
    recording.mark("early")
    file = recording.adopt("a", b"before")
    recording.write("a", file, 0, b"B")
    assert {image.files["a"] for image in recording.images(SEED, 100)} == {b"before", b"Before"}


def test_labels_are_acknowledged_from_their_mark_on() -> None:
    recording, _ = one_file(synced=b"x")
    recording.mark("one")
    recording.mark("two")
    for image in recording.images(SEED, 100):
        assert image.acknowledged == ("one", "two")[: max(0, image.crash - 3)]


def test_a_seed_and_a_number_make_the_same_image_again() -> None:
    recording, file = one_file(synced=b"." * 5000)
    for offset in range(0, 5000, 700):
        recording.write("a", file, offset, b"x" * 900)
    images = list(recording.images(SEED, 50))
    assert images == list(recording.images(SEED, 50))
    assert images != list(recording.images(SEED + 1, 50))
    assert sorted(image.number for image in images) == list(range(50))
    assert all(image == recording.image(SEED, image.number) for image in images)
    more = {image.number: image for image in recording.images(SEED, 200)}
    assert all(image == more[image.number] for image in images)


def test_writing_an_image_replaces_the_recorded_files_only(tmp_path: Path) -> None:
    recording, _ = one_file(synced=b"x")
    recording.create("a-wal")
    image = next(image for image in images_at_end(recording) if "a-wal" not in image.files)
    for name in ("a", "a-wal", "a-shm", "key"):
        (tmp_path / name).write_bytes(b"other")
    image.write_to(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"x", "key": b"other"}
