"""Every bound in one place, each with its unit and its reason.

Whatever comes from outside meets one of these before it costs work.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# -- entries ---------------------------------------------------------------------------------

PARENTS_MAX: Final = 64
"""Parents that one entry names besides `prev`; more heads are merged by several entries."""

BODY_SIZE_MAX_BYTES: Final = 256 * KIB
"""Longest body before padding: a key entry for 100 devices is 160 KiB (tests/log/test_bodies.py)."""

TEXT_SIZE_MAX_BYTES: Final = 128 * KIB
"""Longest message text in UTF-8: fits a body with room for escapes of its other fields."""

BODY_DEPTH_MAX: Final = 64
"""Nesting of a body, unknown fields included: far below any parser's stack."""

TITLE_SIZE_MAX_BYTES: Final = 1 * KIB
"""Longest title of a conversation in UTF-8: it stands in every list."""

NAME_SIZE_MAX_BYTES: Final = 1 * KIB
"""Longest name of an author, a file or a device in UTF-8."""

EMOJI_SIZE_MAX_BYTES: Final = 64
"""Longest reaction in UTF-8: the longest emoji sequences in use are 35 bytes."""

KEY_RECIPIENTS_MAX: Final = 100
"""Devices for which one key entry wraps an epoch secret."""

REFERENCES_MAX: Final = 64
"""Messages to which one message replies; the IRC corpus has at most 20."""

BODY_PADDING_FLOOR_BYTES: Final = 32
"""Shorter bodies are padded to this, so that "yes" and "no" look the same to a host."""

SEQ_MAX: Final = 2**53 - 1
"""Integers stay exact in every language, JavaScript included."""

TIME_MAX_MS: Final = 2**53 - 1
"""As SEQ_MAX; a claimed time is milliseconds since 1970, never negative."""

WEEK_MAX: Final = 8191
"""Weeks from Monday 3 January 2000; 13 bits reach the year 2156. Later is this week."""

# -- storage ---------------------------------------------------------------------------------

STORE_ROWS_MAX: Final = 1000
"""Rows that one store call touches: bounds the time a write lock is held (about 30 ms)."""

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a writer waits for another process before it gives up with exit code 5."""

SCRUB_WAIT_MS: Final = 250
"""How long an erasure, with the lock held, waits for readers of what it overwrites; then a later one does."""

SEARCH_CANDIDATES_MAX: Final = 1000
"""Newest stored hits that a search puts in order: keeps it near 10 ms in 1,000,000 messages."""

SEARCH_CHECK_SIZE: Final = 2 * MIB
"""Characters that the check of the search index takes at once: about 10 MiB, and few sums to add up."""

FREE_SPACE_MIN_BYTES: Final = 256 * MIB
"""Below this much free disk, 'mlog doctor' warns: a merge of the search index may need as much."""

WAL_SIZE_WARN_BYTES: Final = 64 * MIB
"""A WAL above this is held open by a reader; it stays near 4 MiB otherwise."""

CLOCK_SKEW_WARN_MS: Final = 24 * 3600 * 1000
"""A clock a day behind the newest message written here is wrong; time zones are within it."""

GAPS_MAX: Final = 10_000
"""Gaps that are listed for one log; a disk that lost more than this needs a restore, not a list."""

# -- import ----------------------------------------------------------------------------------

LINE_SIZE_MAX_BYTES: Final = 1 * MIB
"""Longest line of a text file; a longer one is refused after this many bytes are read."""

MAIL_SIZE_MAX_BYTES: Final = 64 * MIB
"""Largest single mail; mail servers refuse messages above 25 to 50 MiB."""

SNIFF_SIZE_BYTES: Final = 64 * KIB
"""How much of the start of a file is looked at to tell its format."""

SKIPPED_SHOWN_MAX: Final = 1000
"""Skipped lines that a report names; it counts all of them."""

# -- formats ---------------------------------------------------------------------------------

LINKS_SIZE_MAX_BYTES: Final = 8 * MIB
"""Reply annotations of one log: read whole, about 600,000 links, 200 bytes of memory each."""

JSON_VALUE_SIZE_MAX_BYTES: Final = 4 * MIB
"""One message in a JSON export with everything in it, and all that stands between two messages."""

JSON_DEPTH_MAX: Final = 64
"""Nested lists and objects in a JSON export; Telegram's go 8 deep."""

# -- sync ------------------------------------------------------------------------------------

OFFERED_LOGS_MAX: Final = 10_000
"""Logs that one offer names: 370 KiB; far more conversations than a person has."""

BUNDLE_ENTRIES_MAX: Final = 1000
"""Entries of one bundle: as STORE_ROWS_MAX."""

BUNDLE_SIZE_MAX_BYTES: Final = 1 * MIB
"""A bundle takes no further entry beyond this: what a broken connection sends again at most."""

VECTOR_CHAINS_MAX: Final = 512
"""Chains of a vector; a log with more compares segments."""

VECTOR_HOLES_MAX: Final = 10_000
"""Holes of a vector, and ranges that one request wants: about 40 KiB and 10 ms."""
