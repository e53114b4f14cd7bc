"""Each example script runs as a person would call it, on a home made here."""

from __future__ import annotations

import email
import email.policy
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import mlog

_REPO = Path(__file__).resolve().parents[2]
_FOLDER = _REPO / "scripts" / "examples"
_SCRIPTS = sorted(_FOLDER.iterdir())
_COOKBOOK = (_REPO / "docs" / "cookbook.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="started by their first line")

LOG = """[2023-05-01 10:00:00] <ada> who sails on sunday?
[2023-05-01 10:00:30] <bo> me & my "boat" </text>
[2024-05-08 23:59:00] <ada> a week later
"""


@pytest.fixture
def sample(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an imported chat and one written here; its scripts and mlog are on the PATH."""
    places = [str(_FOLDER), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    (tmp_path / "#boat.log").write_text(LOG)
    (tmp_path / "links").write_text("0 1 -\n")
    with mlog.open(home, person="Ann") as opened:
        garden = opened.new("Garden/../x").n
        opened.send(garden, "The beans are up <b>")
    subprocess.run(
        ["mlog", "import", tmp_path / "#boat.log", "--links", tmp_path / "links"], check=True, timeout=60
    )
    return home


def ran(*words: str | Path, code: int = 0, **options) -> str:
    done = subprocess.run(
        ["mlog", *map(str, words)], capture_output=True, text=True, timeout=120, check=False, **options
    )
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.name)
def test_every_script_says_what_it_does_fits_a_screen_or_two_and_stands_in_the_cookbook(script: Path) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    assert os.access(script, os.X_OK)
    assert lines[0] == "#!/usr/bin/env python3"
    assert lines[1].startswith('"""')
    word = script.name.removeprefix("mlog-")
    assert any(line.lstrip().startswith(f"mlog {word}") for line in lines[2:5])
    assert len([line for line in lines if line.strip()]) <= 50
    assert f"`{script.name}`" in _COOKBOOK


def test_there_are_ten_at_least_and_each_has_a_test_here() -> None:
    assert len(_SCRIPTS) >= 10
    text = Path(__file__).read_text(encoding="utf-8")
    for script in _SCRIPTS:
        word = script.name.removeprefix("mlog-")
        assert f'ran("{word}"' in text or f'"mlog", "{word}"' in text, script.name


def test_when_draws_every_message_in_its_hour(sample: Path) -> None:
    drawn = ET.fromstring(ran("when"))
    titles = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 7 * 24
    assert "Mon 10:00 UTC: 2" in titles
    assert "Wed 23:00 UTC: 1" in titles
    assert "ada: 2" in [e.text for e in ET.fromstring(ran("when", "#boat")).iter()]


def test_replies_draws_people_and_who_answers_whom(sample: Path) -> None:
    drawn = ET.fromstring(ran("replies", "#boat"))
    names = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert names == ["ada", "bo"]
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}path"))) == 1


def test_digest_is_a_mail_printed_or_handed_on(sample: Path, tmp_path: Path) -> None:
    mail = email.message_from_string(ran("digest", "me@example.org"), policy=email.policy.default)
    assert mail["To"] == "me@example.org"
    text = mail.get_content()
    assert "Ann: The beans are up <b>" in text
    assert "sails" not in text
    ran("digest", "me@example.org", "--days", "9999", "--sendmail", f"tee {tmp_path / 'sent'}")
    assert b"who sails" in (tmp_path / "sent").read_bytes()


def test_gapreport_ends_with_0_where_nothing_is_missing(sample: Path) -> None:
    assert ran("gapreport") == "nothing is missing that mlog knows of\n"


def test_week_writes_the_messages_of_that_week_and_no_other(sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "weeks"
    ran("week", "2023-05-01", out)
    written = sorted(path.name for path in (out / "2023-05-01").iterdir())
    assert [re.sub(r"-[0-9a-f]{8}\.", ".", name) for name in written] == [
        "Garden_x.html",
        "Garden_x.jsonl",
        "_boat.html",
        "_boat.jsonl",
    ]
    boat = next((out / "2023-05-01").glob("_boat*.jsonl")).read_text(encoding="utf-8")
    assert "who sails" in boat
    assert "a week later" not in boat


def test_words_sorts_what_it_finds_by_program(sample: Path) -> None:
    assert ran("words", "sails") == "irc (1)\n  #boat: ada: who sails on sunday?\n"
    assert ran("words", "beans").startswith("mlog (1)\n")


def test_dump_shows_the_bytes_that_the_id_is_of(sample: Path) -> None:
    with mlog.open(sample) as opened:
        message = next(opened.messages(opened.conversation("Garden").n))
        outer = opened.find_entry(message.id.hex()).outer
    text = ran("dump", message.id.hex())
    header = text.partition("header: ")[2].partition("body, ")[0]
    dumped = "".join(re.findall(r"^  [0-9a-f]{6}  ((?:[0-9a-f]{2} ?)+) ", header, re.MULTILINE))
    assert bytes.fromhex(dumped) == outer


def test_pipe_hands_on_each_new_message_and_runs_nothing_of_it(sample: Path, tmp_path: Path) -> None:
    command = ["mlog", "pipe", "Garden", "--count", "1", "--", "sh", "-c", 'cat; echo " $MLOG_AUTHOR"']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "following\n"
        ran("send", "Garden", "$(touch owned)")
        assert process.stdout.readline() == "$(touch owned) Ann\n"
        assert process.wait(60) == 0


def test_nightly_makes_a_verified_backup_and_keeps_so_many(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in ("01", "02"):
        (folder / f"mlog-2020-01-{day}T000000.backup").write_bytes(b"old")
    (tmp_path / "secret").write_text("correct horse\n")
    out = ran("nightly", folder, "--passphrase-file", tmp_path / "secret", "--keep", "2")
    assert "restored and verified" in out
    kept = sorted(path.name for path in folder.iterdir())
    assert len(kept) == 2
    assert kept[0] == "mlog-2020-01-02T000000.backup"


def test_nightly_that_fails_keeps_every_older_backup(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "mlog-2020-01-01T000000.backup").write_bytes(b"old")
    (tmp_path / "secret").write_text("\n")
    ran("nightly", tmp_path, "--passphrase-file", tmp_path / "secret", "--keep", "1", code=1)
    assert (tmp_path / "mlog-2020-01-01T000000.backup").exists()


def test_compare_names_what_only_one_home_has(sample: Path, tmp_path: Path) -> None:
    assert ran("compare", sample, sample).startswith("4 in both")
    with mlog.open(tmp_path / "other", person="Bo") as other:
        other.send(other.new("Tea").n, "only here")
    out = ran("compare", sample, tmp_path / "other", code=1)
    assert "+ Tea: Bo: only here" in out
    assert "- #boat: ada: who sails on sunday?" in out
    ran("compare", sample, tmp_path / "nowhere", code=1)
    assert not (tmp_path / "nowhere").exists()


def test_today_shows_this_day_of_earlier_years(sample: Path) -> None:
    assert "10:00 #boat: ada: who sails on sunday?" in ran("today", "05-01")
    assert "beans" not in ran("today")
