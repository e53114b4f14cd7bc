"""Import and export: reports, refusals, whole files."""

from __future__ import annotations

import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import pytest


def test_import_reports_new_known_and_skipped_with_line_numbers(run, chat):
    result = run("import", chat)
    assert result.code == 0
    assert "#boat (new): 3 new, 0 already known" in result.out
    assert "1 skipped" in result.out
    assert "line 3: empty line" in result.out
    assert "#boat: 0 new, 3 already known" in run("import", chat).out


def test_import_says_what_was_erased_meanwhile(run, tmp_path, chat):
    run("new", "x")
    id_ = run("send", "x", "secret").out.strip()
    run("export", "x", "-o", tmp_path / "x.jsonl")
    run("erase", id_, "--yes")
    out = run("import", tmp_path / "x.jsonl").out
    assert "0 new" in out
    assert "1 of them erased" in out


def test_import_reads_standard_input(run, chat):
    assert "3 new" in run("import", "-", stdin=chat.read_bytes()).out


def test_dry_run_writes_nothing(run, chat):
    out = run("import", chat, "--dry-run").out
    assert "nothing written" in out
    assert "3 new" in out
    assert run("--json").records[-1]["conversations"] == 0


def test_into_chooses_the_conversation(run, chat):
    run("new", "harbour")
    assert "harbour: 3 new" in run("import", chat, "--into", "harb").out
    assert run("--json").records[-1]["conversations"] == 1
    assert run("import", chat, "--into", "elsewhere").code == 1


def test_links_become_replies(run, chat, tmp_path):
    links = tmp_path / "links"
    links.write_text("0 1 -\n")
    run("import", chat, "--links", links)
    assert [bool(m["reply_to"]) for m in run("--json", "log", "#boat").records] == [False, True, False]


def test_links_belong_to_one_file(run, chat):
    assert run("import", chat, chat, "--links", chat).code == 2


def test_date_is_the_day_of_lines_without_one(run, tmp_path):
    log = tmp_path / "#c.log"
    log.write_text("[10:00] <ada> hello\n[10:01] <bo> hi\n")
    run("import", log, "--date", "2020-02-29")
    assert run("--json", "log", "#c").records[0]["time"] == "2020-02-29T10:00:00.000Z"
    assert run("import", log, "--date", "2021-02-29").code == 2


def test_a_folder_without_chats_is_refused_with_what_works(run, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    result = run("import", folder)
    assert result.code == 1
    assert "docs/formats.md" in result.err


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02" * 100])
def test_a_file_of_no_known_format_is_refused_by_name(content, run, tmp_path):
    (tmp_path / "thing.bin").write_bytes(content)
    result = run("import", tmp_path / "thing.bin")
    assert result.code == 1
    assert "thing.bin" in result.err
    assert ("nothing in it to import" in result.err) == (content == b"")


def test_a_missing_file_and_an_unknown_format_are_refused(run, tmp_path, chat):
    assert "none: there is no such file or folder." in run("import", tmp_path / "none").err
    assert run("import", chat, "--format", "carrier-pigeon").code == 1


def test_one_bad_file_does_not_keep_the_others_out(run, tmp_path, chat):
    result = run("import", tmp_path / "none", chat)
    assert result.code == 1
    assert "none" in result.err
    assert "3 new" in result.out


def test_a_line_of_the_file_is_named_where_it_is_wrong(run, tmp_path):
    run("new", "x")
    run("send", "x", "hi")
    run("export", "x", "-o", tmp_path / "x.jsonl")
    with (tmp_path / "x.jsonl").open("ab") as file:
        file.write(b'{"broken\n')
    result = run("--home", tmp_path / "other", "import", tmp_path / "x.jsonl")
    assert result.code == 1
    assert "x.jsonl:" in result.err


def test_progress_shows_count_and_rate_on_a_terminal(run, chat):
    err = run("import", chat, tty=True).err
    assert "importing #boat.log" in err
    assert "/s" in err


# -- export ----------------------------------------------------------------------------------


def test_export_prints_a_file_that_imports_again_to_the_same(run, chat, tmp_path):
    run("import", chat)
    first = run("export", "#boat").out
    (tmp_path / "a.jsonl").write_text(first, encoding="utf-8")
    other = ("--home", tmp_path / "other")
    run(*other, "import", tmp_path / "a.jsonl")
    assert run(*other, "export", "#boat").out == first


@pytest.mark.parametrize("format_", ["jsonl", "telegram", "mbox", "markdown", "csv", "html"])
def test_every_format_is_written(format_, run, chat, tmp_path):
    run("import", chat)
    assert run("export", "#boat", "--format", format_, "-o", tmp_path / "out").code == 0
    assert b"who sails" in (tmp_path / "out").read_bytes()


def test_export_does_not_overwrite_unless_forced(run, chat, tmp_path):
    run("import", chat)
    out = tmp_path / "out"
    out.write_text("precious")
    result = run("export", "#boat", "-o", out)
    assert result.code == 1
    assert "--force" in result.err
    assert out.read_text() == "precious"
    assert run("export", "#boat", "-o", out, "--force").code == 0
    assert out.read_text() != "precious"


def test_an_export_that_fails_leaves_the_old_file_and_no_other(run, chat, tmp_path, monkeypatch):
    run("import", chat)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x").write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    result = run("export", "#boat", "-o", folder / "x", "--force")
    assert result.code == 6
    assert "x was not written: the disk is full" in result.err
    assert [path.read_text() for path in folder.iterdir()] == ["old"]


def test_export_into_a_folder_that_is_not_there_says_so(run, chat, tmp_path):
    run("import", chat)
    result = run("export", "#boat", "-o", tmp_path / "no" / "x")
    assert result.code == 1
    assert f"no folder {tmp_path / 'no'}" in result.err


def test_export_follows_a_link_to_the_file(run, chat, tmp_path):
    run("import", chat)
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run("export", "#boat", "-o", tmp_path / "link", "--force")
    assert (tmp_path / "link").is_symlink()
    assert "who sails" in (tmp_path / "real").read_text()


def test_export_to_a_terminal_shows_harmless_text(run):
    run("new", "x")
    run("send", "x", "a\u202eb")
    assert "\u202e" not in run("export", "x", tty=True).out
    assert "\u202e" in run("export", "x").out


def test_an_export_that_leaves_damage_out_exits_4_and_names_it(run, home: Path):
    run("new", "x")
    id_ = run("--json", "send", "x", "hello").records[0]["id"]
    with closing(sqlite3.connect(home / "mlog.db")) as db, db:
        db.execute(
            "UPDATE bodies SET body = '{}' WHERE n = (SELECT n FROM entries WHERE id = ?)",
            (bytes.fromhex(id_),),
        )
    result = run("export", "x")
    assert result.code == 4
    assert id_[:8] in result.err
    assert "hello" not in result.out


def test_an_archive_is_imported_and_what_nobody_knows_is_named(run, chat, tmp_path):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logs/#boat.log", chat.read_bytes())
        archive.writestr("noise.bin", bytes(range(9)))
    result = run("import", path)
    assert result.code == 0
    assert "#boat (new): 3 new" in result.out
    assert "noise.bin: in no format" in result.out
    records = run("--json", "import", path).records
    skipped = next(record for record in records if record.get("part") == "noise.bin")
    assert skipped["position"] == 0


def test_a_packed_tar_archive_is_imported(run, chat, tmp_path):
    path = tmp_path / "takeout.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(chat, "logs/#boat.log")
    result = run("import", path)
    assert result.code == 0
    assert "#boat (new): 3 new" in result.out


def test_an_encrypted_archive_is_refused_by_one_line(run, tmp_path):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    result = run("import", path)
    assert result.code == 1
    assert "password" in result.err


def test_a_zone_is_a_name_of_a_zone(run, chat):
    assert run("import", chat, "--zone", "Europe/Berlin", "--date-order", "dmy").code == 0
    result = run("import", chat, "--zone", "Nowhere/../x")
    assert result.code == 1
    assert "Europe/Berlin" in result.err
    assert run("import", chat, "--date-order", "xyz").code == 2


def test_an_export_with_attachments_comes_back_with_them(run, tmp_path):
    run("new", "trip")
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(b"meow")
    run("send", "trip", "look", "--attach", picture)
    out = tmp_path / "out"
    out.mkdir()
    assert run("export", "trip", "-o", out / "trip.jsonl", "--attachments", out / "files").code == 0
    [written] = (out / "files").iterdir()
    assert written.read_bytes() == b"meow"
    result = run("--home", tmp_path / "second", "import", out / "trip.jsonl")
    assert result.code == 0
    assert "1 message, 1 person, 1 attachment, " in result.out
