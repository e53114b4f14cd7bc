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

CHUNK_SIZE_MAX_BYTES: Final = 240 * KIB - 20
"""Bytes of an attachment in one entry: with the 20 before them 240 KiB, which needs no padding."""

CHUNKS_MAX: Final = 4400
"""Chunks that one attachment names: 210 KB of ids, which fit its manifest."""

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

SCAN_ROWS_MAX: Final = 128
"""Rows that are read together with bodies of any kind: 32 MiB, if all are chunks of attachments."""

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a writer waits for another process before it gives up with exit code 5."""

SCRUB_WAIT_MS: Final = 250
"""How long an erasure, with the lock held, waits for readers of what it overwrites; then a later one does."""

SEARCH_CANDIDATES_MAX: Final = 1000
"""Newest stored hits that a search puts in order: keeps it near 10 ms in 1,000,000 messages."""

SEARCH_TEXT_MAX: Final = 256 * KIB
"""Characters of a text, once folded, that search finds it by: twice the longest text, or 25 ms."""

SEARCH_CHECK_SIZE: Final = 2 * MIB
"""Characters that the check of the search index takes at once: about 10 MiB, and few sums to add up."""

FREE_SPACE_MIN_BYTES: Final = 256 * MIB
"""Below this much free disk, 'mlog doctor' warns: a merge of the search index may need as much."""

WAL_SIZE_WARN_BYTES: Final = 64 * MIB
"""A WAL above this is held open by a reader; it stays near 4 MiB otherwise."""

CLOCK_SKEW_WARN_MS: Final = 24 * 3600 * 1000
"""A clock a day behind the newest message written here is wrong; time zones are within it."""

BRANCHES_READ_MAX: Final = 16
"""Branches of one chain that are compared for evidence of a fork; honest devices make two or three."""

EPOCHS_MAX: Final = 1000
"""Epochs that each device may begin in a log, and that are kept of it otherwise: a try of each takes 1 us."""

GAPS_MAX: Final = 10_000
"""Gaps that are listed for one log; a disk that lost more than this needs a restore, not a list."""

# -- import ----------------------------------------------------------------------------------

LINE_SIZE_MAX_BYTES: Final = 1 * MIB
"""Longest line of a text file; a longer one is refused after this many bytes are read."""

MAIL_SIZE_MAX_BYTES: Final = 64 * MIB
"""Largest single mail; mail servers refuse messages above 25 to 50 MiB."""

MAIL_PARTS_MAX: Final = 1000
"""Parts of one mail that are read; digests of lists have dozens. Reading one costs at most 1 ms."""

MAIL_BOUNDARIES_MAX: Final = 20_000
"""Lines that may begin a part of a mail: the parser makes 2 KB of each. With more it is read as text."""

MAIL_HEADERS_MAX: Final = 10_000
"""Header lines in a row; long ways through servers make 200. A mail with more is read as text."""

MAIL_DEPTH_MAX: Final = 32
"""Mails and multiparts inside each other; ten times forwarded is 20."""

SNIFF_SIZE_BYTES: Final = 64 * KIB
"""How much of the start of a file is looked at to tell its format."""

SKIPPED_SHOWN_MAX: Final = 1000
"""Skipped lines that a report names; it counts all of them."""

COMPARED_MAX: Final = 100_000
"""Messages of a log held to compare an import with them: about 40 MB. A week with more is not compared."""

TREE_FILES_MAX: Final = 200_000
"""Files of a folder or archive that is imported: about 100 MiB of names."""

TREE_SIZE_MAX_BYTES: Final = 256 * 1024 * MIB
"""What the files of one archive hold when unpacked; exports of chats with videos reach tens of GiB."""

ZIP_RATIO_MAX: Final = 250
"""How many times larger a file of an archive may be when unpacked; chats in JSON reach 40."""

ZIP_RATIO_FROM_BYTES: Final = 1 * MIB
"""Smaller files may be packed more tightly: they do no harm."""

TAR_HEADER_SIZE_MAX_BYTES: Final = 1 * MIB
"""All headers of one file of a tar archive, with its long name; they have a few KiB."""

XZ_MEMORY_MAX_BYTES: Final = 96 * MIB
"""Memory to unpack an xz archive: the strongest usual setting, `xz -9`, takes 65 MiB."""

TEMPORARY_FREE_MIN_BYTES: Final = 512 * MIB
"""What stays free on the disk of temporary files while a packed archive is unpacked there."""

ATTACHMENT_SIZE_MAX_BYTES: Final = 1024 * MIB
"""Largest file that is kept with a message: CHUNKS_MAX chunks are a little more."""

FILES_MAX: Final = 100
"""Files of one message; chat programs allow 10 to 30, and a mail may have more."""

IMPORT_BATCH_SIZE_BYTES: Final = 4 * MIB
"""What an import writes at once at most: 16 chunks, or STORE_ROWS_MAX messages."""

IMPORT_SOURCES_MAX: Final = 250
"""Files that one chain of an import names; a chat of more files goes on in a further chain."""

PEOPLE_COUNTED_MAX: Final = 100_000
"""Authors of a chat that an import tells apart to count them; 10 MB."""

# -- formats ---------------------------------------------------------------------------------

LINKS_SIZE_MAX_BYTES: Final = 8 * MIB
"""Reply annotations of one log: read whole, about 600,000 links, 200 bytes of memory each."""

JSON_VALUE_SIZE_MAX_BYTES: Final = 4 * MIB
"""One message in a JSON export with everything in it, and all that stands between two messages."""

JSON_DEPTH_MAX: Final = 64
"""Nested lists and objects in a JSON export; Telegram's go 8 deep."""

MESSAGE_LINES_SIZE_MAX_BYTES: Final = 1 * MIB
"""One message of several lines in a text export; WhatsApp's have at most 65,536 characters."""

CHATS_PER_FILE_MAX: Final = 100_000
"""Chats that are mixed in one file and sorted out of it: about 500 bytes of memory each."""

HTML_FILE_SIZE_MAX_BYTES: Final = 16 * MIB
"""One page of an HTML export; Google Voice makes one for each day and chat."""

HTML_PIECE_SIZE_MAX_BYTES: Final = 256 * KIB
"""One tag, comment or run of text in a page: a longer one that does not end is no HTML."""

# -- sketches --------------------------------------------------------------------------------

SKETCH_CELLS_FIRST: Final = 32
"""Cells asked for at first, 288 bytes: decode 10 differing ids, and tell how many there are of more."""

SKETCH_CELLS_MAX: Final = 2**18
"""Cells of one sketch, 2.3 MB: decode 190,000 differing ids. Of more, the ids are listed."""

SKETCH_ROUNDS_MAX: Final = 4096
"""Rounds of peeling, 1 ms each: honest cells take under 1,000, crafted ones could take 100,000."""

# -- people ----------------------------------------------------------------------------------

DISPUTES_MAX: Final = 16
"""Rulings that undo concurrent ones and are decided one after the other; honest people have none or one."""

PARTING_ENTRIES_MAX: Final = 64
"""Entries that tell a person that it was removed: the rulings, and what they rest on; mostly one or two."""

CUTS_MAX: Final = 1_000
"""Chains that one entry cuts: 130 KiB; of a device with more, several entries do."""

KEY_ENTRIES_READ_MAX: Final = 64
"""Key entries of a log that are looked at: the latest, or for its beginning the first; at most 10 MiB."""

GRANT_LOGS_MAX: Final = 100
"""Logs whose secrets one grant has, which take 20 ms to add; the next grant has more."""

GRANT_SIZE_MAX_BYTES: Final = 40 * KIB
"""A grant takes no further log beyond this; a log with EPOCHS_MAX epochs is 38 KiB."""

TRUST_FILE_SIZE_MAX_BYTES: Final = 64 * KIB
"""Largest trust file that is read: honest ones are 3 KiB."""

TRUST_FILE_LIFE_MS: Final = 7 * 24 * 3600 * 1000
"""A trust file is good for a week: one that is found later, on a stick or in a mail, opens nothing."""

ADDRESSES_MAX: Final = 16
"""Addresses of one device that are kept: each is tried in turn."""

# -- private state ---------------------------------------------------------------------------

PRIVATE_CHANGE_SIZE_MAX_BYTES: Final = 160 * KIB
"""Longest change of the private state: a draft as long as a message, and what stands around it."""

PRIVATE_OPS_MAX: Final = 256
"""Keys that one change of the private state sets or deletes; commands set a few."""

PRIVATE_DEPS_MAX: Final = 256
"""Concurrent changes, and other devices' chains, that one change of the private state names."""

PRIVATE_OP_NUMBER_MAX: Final = 2**31 - 1
"""Operations on the private state in all: automerge counts them in 32 bits."""

PRIVATE_WAITING_MAX: Final = 256
"""Changes of the private state that wait for others; honest ones are written after what they name."""

PRIVATE_REFUSED_MAX: Final = 1_000
"""Entries of the private log whose reason for not counting is kept; that they do not count is worked out."""

EXPIRE_MIN_MS: Final = 60_000
"""Shortest time after which messages may disappear: clocks of devices differ by as much."""

EXPIRE_LOOK_MS: Final = 3_600_000
"""How often a home looks for what is to disappear: a look goes through what stands behind the setting."""

LABEL_SIZE_MAX_BYTES: Final = 64
"""Longest label of a conversation in UTF-8."""

READ_CHAINS_MAX: Final = 1_000
"""Chains of others in one conversation whose read position is kept or told, those read furthest: 50 KB."""

PRIVATE_KEY_SIZE_MAX_BYTES: Final = 1 * KIB
"""Longest key of the private state: a conversation and a label of it."""

# -- pairing ---------------------------------------------------------------------------------

PAIRING_LIFE_MS: Final = 120_000
"""How long a pairing code is good, and a pairing may take: time to walk to the other device."""

PAIRING_TEXT_SIZE_MAX_BYTES: Final = 2 * KIB
"""Longest code or link that is read, in characters; the longest link that is made has 1,456."""

PAIRING_ADDRESSES_SIZE_MAX_BYTES: Final = 1 * KIB
"""Addresses of one link in all: it still fits a QR code that a phone can read."""

PAIRINGS_FOUND_MAX: Final = 16
"""Devices that wait to be paired in one network and are listed; whoever looks for one knows its address."""

PAIRING_MESSAGE_SIZE_MAX_BYTES: Final = 16 * KIB
"""Longest message of a pairing: a record with all names and addresses at their longest is 8 KiB."""

RECOVERY_CLOCK_MAX_MS: Final = 24 * 3600 * 1000
"""How far the clocks of a recovering device and of a holder may be apart; so long its first message can be
sent again by who has a copy of it."""

PHRASES_TRIED_MAX: Final = 32
"""Recovery phrases, the person's own ones and those of whom it meets, that a stranger's first message is
tried with, each of which costs 0.3 ms."""

RECOVERY_ENTRIES_MAX: Final = 100_000
"""Entries of person logs that a recovering device takes into memory before it has seen whose they are."""

# -- channel ---------------------------------------------------------------------------------

FRAME_SIZE_MAX_BYTES: Final = 65_535
"""Longest websocket message of a session: the longest message that Noise allows."""

MESSAGE_SIZE_MAX_BYTES: Final = 2 * MIB
"""Longest message of a session, in all its frames: a bundle that ends with a largest entry is 1.3 MiB."""

# -- discovery -------------------------------------------------------------------------------

BEACON_TAGS_MAX: Final = 64
"""Devices that one announcement on a LAN can be recognised by: with all else it stays in one packet."""

BEACON_ADDRESSES_MAX: Final = 8
"""Addresses of one announcement: more than a desktop has."""

INTERFACES_LOOK_MS: Final = 10_000
"""How often the machine's own interfaces are looked at, which sends nothing and takes 1 ms."""

SEEN_AGAIN_MS: Final = 10_000
"""The same announcement leads to a dial again only after so long."""

SIGHTINGS_MAX: Final = 1024
"""Announcements of known devices that are remembered, so that copies of old ones are told from new ones."""

MULTICAST_PACKET_MAX_BYTES: Final = 9_000
"""Longest packet of multicast DNS (RFC 6762, 17)."""

MULTICAST_RECORDS_MAX: Final = 4
"""Announcements that are read in one packet; a device sends one."""

MULTICAST_SOURCE_PER_S: Final = 10
"""Packets about mlog that are read of one address in a second; a device sends three in its first one."""

MULTICAST_SOURCE_BURST: Final = 40
"""As MULTICAST_SOURCE_PER_S, at once: many devices of one machine that all answer a question."""

MULTICAST_PER_S: Final = 50
"""Packets about mlog that are read in a second of all addresses, whose senders can make them up."""

MULTICAST_BURST: Final = 250
"""As MULTICAST_PER_S, at once: 200 devices that answer the question of a newcomer."""

MULTICAST_SOURCES_MAX: Final = 1024
"""Addresses whose rate is remembered: about 200 KiB."""

NETWORK_PROBE_MS: Final = 2_000
"""How long 'mlog doctor' looks at the network, all of it side by side."""

NETWORK_PROBES_MAX: Final = 32
"""Addresses that 'mlog doctor' knocks at, of the devices met last: each takes a thread."""

NETWORK_NEIGHBOURS_MAX: Final = 1024
"""Machines in the same network that 'mlog doctor' counts."""

CLOCK_AHEAD_WARN_MS: Final = 3_600_000
"""Clocks further apart make announcements on a LAN unrecognisable (12)."""

# -- connections -----------------------------------------------------------------------------

DIAL_TIMEOUT_MS: Final = 5_000
"""How long one address may take to answer before the next one is tried."""

STALL_TIMEOUT_MS: Final = 120_000
"""A peer that takes no byte of what waits for it, or answers no ping, for so long is gone."""

PING_INTERVAL_MS: Final = 60_000
"""How often a desktop asks an idle peer whether it is there: routers forget connections after minutes."""

STOP_TIMEOUT_MS: Final = 3_000
"""How long sessions may take to end when the service stops; systems kill it after 10 s or more."""

WAKE_MAX_MS: Final = 600_000
"""Longest sleep of the one timer: a clock that was put right must not make it years."""

OUTGOING_SIZE_MAX_BYTES: Final = 16 * MIB
"""What waits to be sent to one peer: far more than a bundle and the answers to one offer."""

SESSIONS_MAX: Final = 512
"""Sessions with known devices: with the strangers they stay below 1,024 open files."""

STRANGERS_MAX: Final = 64
"""Connections that did not yet say who they are; the newest are kept."""

STRANGERS_PER_ADDRESS_MAX: Final = 32
"""Of these, from one address: half, so that one place cannot push out all others."""

STRANGERS_PER_S: Final = 20
"""New connections a second from one address: handshakes then take 4% of a core."""

STRANGERS_BURST: Final = 100
"""New connections at once from one address, such as a proxy in front of this device."""

STRANGER_ADDRESSES_MAX: Final = 4096
"""Addresses whose rate is remembered: about 1 MiB."""

STRANGER_SIZE_MAX_BYTES: Final = 512 * KIB
"""What may come before it is known who sends it: a handshake, and an offer of OFFERED_LOGS_MAX behind it."""

IDLE_TIMEOUT_MS: Final = 15_000
"""A round of sync in which no message came or went for so long is over."""

LOCAL_LINE_SIZE_MAX_BYTES: Final = 1 * MIB
"""Longest request on the local socket: a message of TEXT_SIZE_MAX_BYTES with every character escaped."""

LOCAL_PAGE_SIZE_MAX_BYTES: Final = 1 * MIB
"""A page of messages on the local socket takes no further one beyond this much text."""

LOCAL_CLIENTS_MAX: Final = 64
"""Programs at the local socket at once; all of them are the same person's."""

POKE_TIMEOUT_MS: Final = 50
"""How long a writer waits to tell the service of its commit; the service finds it at the next one."""

# -- sync ------------------------------------------------------------------------------------

OFFERED_LOGS_MAX: Final = 10_000
"""Logs that one offer names: 370 KiB; far more conversations than a person has."""

BUNDLE_ENTRIES_MAX: Final = 1000
"""Entries of one bundle: as STORE_ROWS_MAX."""

BUNDLE_SIZE_MAX_BYTES: Final = 1 * MIB
"""A bundle takes no further entry beyond this: what a broken connection sends again at most."""

VECTOR_CHAINS_MAX: Final = 512
"""Chains of a vector; a log with more compares segments."""

CHAINS_READ_MAX: Final = 4096
"""Chains of a log that are compared one by one, 10 us each; one with more compares segments."""

VECTOR_HOLES_MAX: Final = 10_000
"""Holes of a vector, and ranges that one request wants: about 40 KiB and 10 ms."""

ANSWERED_VECTORS_SIZE_MAX_BYTES: Final = 1 * MIB
"""Vectors of one answer in all; with the rest of it, 0.5 MiB, it fits a message. Other logs go without."""

ASKED_CELLS_MAX: Final = 2**16
"""Cells of one answer: 576 KiB; a larger sketch is asked for in parts."""

WANTED_IDS_MAX: Final = 1000
"""Ids that one request or one page of ids names: 32 KB."""

ASKED_IDS_MAX: Final = 100_000
"""Missing parts that one session asks for by id: 3 MB, and what is still missing waits for the next."""

ASKED_AGAIN_MAX: Final = 3
"""How often a session asks again for the missing parts of a log that differs, until something of it comes."""

SEGMENT_SLICE_IDS: Final = 20_000
"""Ids of a week that are read, sorted or hashed before others have their turn: about 30 ms."""

SEGMENT_IDS_MAX: Final = 2_000_000
"""Ids of a week that a peer lists before it is no longer believed."""

LISTED_IDS_MAX: Final = 32_768
"""Ids of a listing that are only here or only there, before these are sent and asked for: 3 MB."""

COMPARED_DEEPLY_MAX: Final = 8
"""Logs of one session that are sketched or listed side by side: of each one the ids are in memory."""

LIVE_SKIP_MAX: Final = 10_000
"""Entries that came from a peer and are left out of what is pushed to it; beyond, some are sent in vain."""

ENTRY_FRAMING_BYTES: Final = 24
"""What an entry takes in a bundle beside its bytes: lengths, a signature."""

RECEIVED_SLICE_COST: Final = 1100
"""What is stored before another session has its turn, about 50 ms: an entry costs 1, a signature 8, each
64 bytes of an outer part beyond 256 and each 256 of a body 1; each entry more where many epochs are tried.
A full bundle with a few signatures is one slice."""

REQUESTS_MAX: Final = 64
"""Requests of one side that are on their way; further ones wait until one of them is done."""

REQUESTS_SIZE_MAX_BYTES: Final = 2 * MIB
"""What these name in all, as bytes of ids, short ids and ranges; a single one may be as long as a message."""

INBOX_SIZE_MAX_BYTES: Final = 8 * MIB
"""Messages that wait in one session; an honest peer has one bundle and a few questions on their way."""

INBOX_MESSAGES_MAX: Final = 4096
"""As INBOX_SIZE_MAX_BYTES, for small ones."""

HANDSHAKE_TIMEOUT_MS: Final = 5_000
"""How long a stranger may keep a connection: a handshake takes two messages and 2 ms."""

ANSWER_TIMEOUT_MS: Final = 60_000
"""How long a peer that has to answer may say nothing: a large log takes seconds to hash."""

SETTLE_MS: Final = 5_000
"""A log that changed is compared again when it has been at rest for so long: one small message."""

TICKED_SESSIONS_MAX: Final = 128
"""Sessions whose time has come that one event looks at, 5 us each; the next ones follow at once."""

RECEIPT_LIFE_MS: Final = 30 * 24 * 3600 * 1000
"""How long a holder stands by a receipt."""

REDIAL_MIN_MS: Final = 5_000
"""First wait before a device is dialled again; it doubles up to REDIAL_MAX_MS."""

REDIAL_MAX_MS: Final = 30 * 60 * 1000
"""Longest wait: a device that comes back is mostly seen by discovery, or dials itself."""

PEER_ADDRESSES_MAX: Final = 16
"""Addresses that are tried for one device."""

SKETCHED_IDS_MIN: Final = 100
"""Fewer ids of a follower than this, in the segments that differ, are listed: 3 KB, and no arithmetic."""
