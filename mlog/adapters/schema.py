"""Schema of the database, as sqlite-utils migrations, and its public views.

Tables are private and may change with any version. The views `messages`, `conversations`, `attachments`,
`people`, `gaps` and `copies` are the interface for scripts; docs/sql.md documents them column by column, and
VIEWS_VERSION counts their changes. Imported only when a migration may be due: sqlite-utils takes
0.15 s to import.
"""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database, Migrations

from mlog.adapters.search_index import SEARCH_TABLE

__all__ = ["MIGRATIONS", "VIEWS_VERSION"]

VIEWS_VERSION: Final = 6
"""Goes up when a column of a public view changes its meaning or goes away."""

MIGRATIONS: Final = Migrations("mlog")

_TABLES: Final = f"""
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE logs (
    n INTEGER PRIMARY KEY,
    topic BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    secret BLOB NOT NULL,
    title TEXT NOT NULL DEFAULT ''
);

CREATE TABLE epochs (
    log INTEGER NOT NULL REFERENCES logs(n),
    number INTEGER NOT NULL,
    secret BLOB NOT NULL,
    PRIMARY KEY (log, number, secret)
) WITHOUT ROWID;

CREATE TABLE devices (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    person TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE chains (
    n INTEGER PRIMARY KEY,
    log INTEGER NOT NULL REFERENCES logs(n),
    device BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    week INTEGER NOT NULL,
    UNIQUE (log, device, incarnation)
);

-- tail: the entry's outer bytes after version and topic, which the log's row has.
-- edit, chain, mid: null rather than 0, since a null takes no byte.
CREATE TABLE entries (
    n INTEGER PRIMARY KEY,
    log INTEGER NOT NULL REFERENCES logs(n),
    week INTEGER NOT NULL,
    id BLOB NOT NULL,
    tail BLOB NOT NULL,
    signature BLOB,
    state INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    chain INTEGER REFERENCES chains(n),
    seq INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    mid BLOB,
    hidden INTEGER NOT NULL,
    edit INTEGER
);
-- 8 of 32 bytes of an id tell entries apart well enough for a lookup, at a third of the size.
CREATE INDEX entries_id ON entries (substr(id, 1, 8));
CREATE INDEX entries_mid ON entries (substr(mid, 1, 8)) WHERE mid IS NOT NULL;
CREATE UNIQUE INDEX entries_chain ON entries (chain, seq) WHERE chain IS NOT NULL;
CREATE INDEX entries_rank ON entries (log, rank);
CREATE INDEX entries_week ON entries (log, week);
CREATE INDEX entries_control ON entries (log, kind, rank) WHERE kind < 16;
CREATE INDEX entries_unopened ON entries (log, n) WHERE chain IS NULL;

CREATE TABLE bodies (
    n INTEGER PRIMARY KEY REFERENCES entries(n),
    body TEXT NOT NULL
);

CREATE TABLE heads (
    log INTEGER NOT NULL REFERENCES logs(n),
    id BLOB NOT NULL,
    PRIMARY KEY (log, id)
) WITHOUT ROWID;

CREATE TABLE parents (
    n INTEGER NOT NULL REFERENCES entries(n),
    parent BLOB NOT NULL,
    PRIMARY KEY (n, parent)
) WITHOUT ROWID;
CREATE INDEX parents_parent ON parents (substr(parent, 1, 8));

CREATE TABLE links (
    n INTEGER NOT NULL REFERENCES entries(n),
    target BLOB NOT NULL,
    log INTEGER NOT NULL,
    PRIMARY KEY (n, target)
) WITHOUT ROWID;
CREATE INDEX links_target ON links (substr(target, 1, 8));

CREATE TABLE digests (
    log INTEGER NOT NULL REFERENCES logs(n),
    week INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    bodies INTEGER NOT NULL,
    entries_hash BLOB NOT NULL,
    bodies_hash BLOB NOT NULL,
    PRIMARY KEY (log, week)
) WITHOUT ROWID;

CREATE TABLE stale (
    log INTEGER NOT NULL REFERENCES logs(n),
    week INTEGER NOT NULL,
    PRIMARY KEY (log, week)
) WITHOUT ROWID;

CREATE TABLE missing (
    log INTEGER NOT NULL REFERENCES logs(n),
    id BLOB NOT NULL,
    part TEXT NOT NULL,
    reason TEXT NOT NULL,
    chain INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX missing_log ON missing (log, id);

{SEARCH_TABLE};
"""

_KIND_NAMES: Final = """CASE e.kind
        WHEN 16 THEN 'message' WHEN 17 THEN 'reply' WHEN 18 THEN 'action' WHEN 19 THEN 'notice'
        WHEN 20 THEN 'join' WHEN 21 THEN 'part' WHEN 22 THEN 'rename' WHEN 23 THEN 'event' END"""

_CONVERSATIONS_VIEW: Final = """\
CREATE VIEW conversations AS
SELECT
    l.n AS n,
    l.title AS title,
    lower(hex(l.topic)) AS topic,
    (SELECT count(*) FROM entries AS e WHERE e.log = l.n AND e.kind BETWEEN 16 AND 23 AND NOT e.hidden)
        AS messages,
    (SELECT count(*) FROM entries AS e WHERE e.log = l.n) AS entries,
    (SELECT max(e.time_ms) FROM entries AS e WHERE e.log = l.n AND e.kind BETWEEN 16 AND 23)
        AS latest_ms,
    (SELECT count(*) FROM missing AS m WHERE m.log = l.n) AS gaps
FROM logs AS l
WHERE l.kind = 'conversation';
"""

_VIEWS: Final = f"""
CREATE VIEW messages AS
SELECT
    e.n AS n,
    lower(hex(e.id)) AS id,
    lower(hex(coalesce(e.mid, substr(e.id, 1, 16)))) AS message_id,
    l.title AS conversation,
    e.log AS conversation_n,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.time_ms / 1000.0, 'unixepoch') AS time,
    e.time_ms AS time_ms,
    {_KIND_NAMES} AS kind,
    CASE WHEN e.mid IS NULL THEN d.person
        WHEN json_valid(b.body) THEN coalesce(json_extract(b.body, '$.by'), '') END AS author,
    e.mid IS NOT NULL AS imported,
    CASE WHEN json_valid(t.body) THEN json_extract(t.body, '$.text') END AS text,
    e.edit IS NOT NULL AS edited,
    e.state = 2 OR (json_valid(b.body) AND coalesce(json_extract(b.body, '$.erased'), 0)) AS erased,
    CASE WHEN json_valid(b.body) THEN json_extract(b.body, '$.to[0]') END AS reply_to,
    e.rank AS position
FROM entries AS e
JOIN logs AS l ON l.n = e.log
LEFT JOIN chains AS c ON c.n = e.chain
LEFT JOIN devices AS d ON d.id = c.device
LEFT JOIN bodies AS b ON b.n = e.n
LEFT JOIN bodies AS t ON t.n = coalesce(e.edit, e.n)
WHERE e.kind BETWEEN 16 AND 23 AND NOT e.hidden;

{_CONVERSATIONS_VIEW}
CREATE VIEW gaps AS
SELECT
    l.title AS conversation,
    m.log AS conversation_n,
    lower(hex(m.id)) AS id,
    m.part AS part,
    m.reason AS reason,
    d.person AS author,
    m.seq AS seq,
    m.time_ms AS time_ms,
    m.since_ms AS since_ms,
    m.detail AS detail
FROM missing AS m
JOIN logs AS l ON l.n = m.log
LEFT JOIN chains AS c ON c.n = m.chain
LEFT JOIN devices AS d ON d.id = c.device;

CREATE VIEW copies AS
SELECT
    l.title AS conversation,
    l.n AS conversation_n,
    'here' AS holder,
    count(e.n) AS entries,
    count(b.n) AS bodies
FROM logs AS l
LEFT JOIN entries AS e ON e.log = l.n
LEFT JOIN bodies AS b ON b.n = e.n
WHERE l.kind = 'conversation'
GROUP BY l.n;
"""

_SYNC_TABLES: Final = """
ALTER TABLE logs ADD COLUMN window_days INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logs ADD COLUMN fetch_bodies INTEGER NOT NULL DEFAULT 1;

-- A forked chain has a row for each branch. SQLite cannot change what is unique in a table.
CREATE TABLE branches (
    n INTEGER PRIMARY KEY,
    log INTEGER NOT NULL REFERENCES logs(n),
    device BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    week INTEGER NOT NULL,
    branch BLOB NOT NULL DEFAULT x'',
    UNIQUE (log, device, incarnation, branch)
);
INSERT INTO branches SELECT n, log, device, incarnation, seq, id, week, x'' FROM chains;
DROP TABLE chains;
ALTER TABLE branches RENAME TO chains;

-- Of a version that mlog does not know: then `tail` is all of the outer bytes.
ALTER TABLE entries ADD COLUMN version INTEGER;
CREATE INDEX entries_unfetched ON entries (log, n) WHERE state = 3;

-- Entries of a chain that are held, and read, without a hole between them.
CREATE TABLE runs (
    chain INTEGER NOT NULL REFERENCES chains(n),
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (chain, first)
) WITHOUT ROWID;
INSERT INTO runs
SELECT chain, min(seq), max(seq) FROM (
    SELECT chain, seq, seq - row_number() OVER (PARTITION BY chain ORDER BY seq) AS run
    FROM entries WHERE chain IS NOT NULL
) GROUP BY chain, run;

-- Entries that others name among their parents and that are not here; pruned: dropped on purpose.
CREATE TABLE absent (
    log INTEGER NOT NULL REFERENCES logs(n),
    id BLOB NOT NULL,
    n INTEGER NOT NULL REFERENCES entries(n),
    pruned INTEGER NOT NULL,
    PRIMARY KEY (log, id)
) WITHOUT ROWID;
INSERT OR IGNORE INTO absent
SELECT e.log, p.parent, min(p.n), 0 FROM parents AS p JOIN entries AS e ON e.n = p.n
WHERE NOT EXISTS (
    SELECT 1 FROM entries AS o WHERE substr(o.id, 1, 8) = substr(p.parent, 1, 8) AND o.id = p.parent
) GROUP BY e.log, p.parent;

-- Evidence of forks: two ids at one place of a chain.
CREATE TABLE forks (
    log INTEGER NOT NULL REFERENCES logs(n),
    device BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    seq INTEGER NOT NULL,
    one BLOB NOT NULL,
    other BLOB NOT NULL,
    PRIMARY KEY (log, device, incarnation)
) WITHOUT ROWID;

-- Work that was left for later; what n and value are, the task says.
CREATE TABLE unsettled (
    log INTEGER NOT NULL REFERENCES logs(n),
    task INTEGER NOT NULL,
    n INTEGER NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (log, task, n)
) WITHOUT ROWID;
-- Entries that were not read in version 1 are looked at again: some are branches of a fork.
INSERT INTO unsettled SELECT DISTINCT log, 1, 0, 0 FROM entries WHERE chain IS NULL;

CREATE TABLE peers (
    device BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    noise BLOB NOT NULL,
    hpke BLOB NOT NULL,
    own INTEGER NOT NULL,
    addresses TEXT NOT NULL,
    added_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE syncs (
    log INTEGER NOT NULL REFERENCES logs(n),
    device BLOB NOT NULL,
    state TEXT NOT NULL,
    here_lacks INTEGER NOT NULL,
    there_lacks INTEGER NOT NULL,
    detail TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    equal_ms INTEGER NOT NULL,
    equal_root BLOB NOT NULL,
    PRIMARY KEY (log, device)
) WITHOUT ROWID;

CREATE TABLE receipts (
    log INTEGER NOT NULL REFERENCES logs(n),
    device BLOB NOT NULL,
    first_week INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    bodies INTEGER NOT NULL,
    entries_root BLOB NOT NULL,
    bodies_root BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    proof BLOB NOT NULL,
    PRIMARY KEY (log, device)
) WITHOUT ROWID;

-- Earlier ones that reach back further: what left a window since is proven by these only.
CREATE TABLE old_receipts (
    log INTEGER NOT NULL REFERENCES logs(n),
    device BLOB NOT NULL,
    first_week INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    bodies INTEGER NOT NULL,
    entries_root BLOB NOT NULL,
    bodies_root BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    proof BLOB NOT NULL,
    PRIMARY KEY (log, device, first_week)
) WITHOUT ROWID;

CREATE TABLE heard (
    log INTEGER NOT NULL REFERENCES logs(n),
    device BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    seq INTEGER NOT NULL,
    holder BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    PRIMARY KEY (log, device, incarnation, holder)
) WITHOUT ROWID;

CREATE TABLE pruned (
    log INTEGER NOT NULL REFERENCES logs(n),
    week INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    bodies INTEGER NOT NULL,
    entries_hash BLOB NOT NULL,
    bodies_hash BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    last_n INTEGER NOT NULL,
    PRIMARY KEY (log, week)
) WITHOUT ROWID;
"""

_SYNC_VIEWS: Final = """
DROP VIEW gaps;
CREATE VIEW gaps AS
SELECT
    l.title AS conversation,
    m.log AS conversation_n,
    lower(hex(m.id)) AS id,
    m.part AS part,
    m.reason AS reason,
    d.person AS author,
    m.seq AS seq,
    m.time_ms AS time_ms,
    m.since_ms AS since_ms,
    m.detail AS detail,
    (SELECT group_concat(p.name, ', ') FROM peers AS p
        WHERE m.part IN ('entry', 'body', 'signature') AND (
            EXISTS (
                SELECT 1 FROM heard AS h
                WHERE h.log = m.log AND h.device = c.device AND h.incarnation = c.incarnation
                    AND h.holder = p.device AND h.seq >= m.seq
            ) OR EXISTS (
                SELECT 1 FROM receipts AS r JOIN syncs AS s ON s.log = r.log AND s.device = r.device
                WHERE r.log = m.log AND r.device = p.device
                    AND r.expires_ms > strftime('%s', 'now') * 1000
                    AND r.first_week <= coalesce(e.week, (m.time_ms - 946857600000) / 604800000)
                    AND s.equal_ms BETWEEN m.time_ms AND m.since_ms
            )
        )) AS holder
FROM missing AS m
JOIN logs AS l ON l.n = m.log
LEFT JOIN chains AS c ON c.n = m.chain
LEFT JOIN devices AS d ON d.id = c.device
LEFT JOIN entries AS e ON length(m.id) = 32 AND substr(e.id, 1, 8) = substr(m.id, 1, 8) AND e.id = m.id
    AND e.log = m.log;

DROP VIEW copies;
CREATE VIEW copies AS
SELECT
    l.title AS conversation,
    l.n AS conversation_n,
    'here' AS holder,
    count(e.n) AS entries,
    count(b.n) AS bodies,
    NULL AS device,
    NULL AS proven_ms,
    NULL AS expires_ms,
    NULL AS first_week
FROM logs AS l
LEFT JOIN entries AS e ON e.log = l.n
LEFT JOIN bodies AS b ON b.n = e.n
WHERE l.kind = 'conversation'
GROUP BY l.n
UNION ALL
SELECT
    l.title,
    l.n,
    p.name,
    r.entries,
    r.bodies,
    lower(hex(p.device)),
    coalesce(nullif(s.equal_ms, 0), r.time_ms),
    r.expires_ms,
    r.first_week
FROM logs AS l
CROSS JOIN peers AS p
LEFT JOIN receipts AS r ON r.log = l.n AND r.device = p.device
LEFT JOIN syncs AS s ON s.log = l.n AND s.device = p.device
WHERE l.kind = 'conversation';
"""


_ATTACHMENT_VIEWS: Final = """
CREATE VIEW attachments AS
SELECT
    e.n AS n,
    lower(hex(e.id)) AS id,
    CASE WHEN json_valid(b.body) THEN json_extract(b.body, '$.of') END AS message_id,
    l.title AS conversation,
    e.log AS conversation_n,
    e.time_ms AS time_ms,
    CASE WHEN json_valid(b.body) THEN json_extract(b.body, '$.name') END AS name,
    CASE WHEN json_valid(b.body)
        THEN coalesce(json_extract(b.body, '$.type'), 'application/octet-stream') END AS type,
    CASE WHEN json_valid(b.body) THEN json_extract(b.body, '$.size') END AS size,
    CASE WHEN json_valid(b.body) THEN json_extract(b.body, '$.hash') END AS hash,
    CASE WHEN json_valid(b.body)
        THEN coalesce(json_array_length(b.body, '$.chunks'), 0) END AS chunks,
    e.state = 2 AS erased
FROM entries AS e
JOIN logs AS l ON l.n = e.log
LEFT JOIN bodies AS b ON b.n = e.n
WHERE e.kind = 5;
"""


_FAMILIES: Final = {
    "": "mlog",
    "mbox": "mail",
    "eml": "mail",
    "maildir": "mail",
    "discord-package": "discord",
    "meta-export": "meta",
}
"""As `mlog.log.identities.FAMILIES`, which may change with any version, unlike this one of the view."""


def _family(column: str) -> str:
    """The program that a format is of, as SQL."""
    cases = " ".join(f"WHEN '{name}' THEN '{family}'" for name, family in _FAMILIES.items())
    return f"CASE {column} {cases} ELSE {column} END"


_PEOPLE_VIEW: Final = f"""
CREATE VIEW people AS
WITH aliases AS (
    SELECT
        {_family("json_extract(b.body, '$.format')")} AS format,
        coalesce(json_extract(b.body, '$.uid'), '') AS uid,
        CASE WHEN coalesce(json_extract(b.body, '$.uid'), '') = ''
            THEN coalesce(json_extract(b.body, '$.by'), '') ELSE '' END AS name,
        coalesce(json_extract(b.body, '$.person'), '') AS person,
        e.rank AS rank,
        e.id AS id
    FROM entries AS e
    JOIN bodies AS b ON b.n = e.n
    WHERE e.kind = 64 AND e.chain IS NOT NULL AND NOT e.hidden AND json_valid(b.body) AND e.log = (
        SELECT f.log FROM entries AS f JOIN logs AS l ON l.n = f.log
        WHERE l.kind = 'private' AND f.kind = 1 AND f.seq = 0 AND f.chain IS NOT NULL
        ORDER BY f.time_ms, l.topic LIMIT 1
    )
), mapped AS (
    SELECT format, uid, name, person FROM (
        SELECT *, row_number() OVER (PARTITION BY format, uid, name ORDER BY rank DESC, id DESC) AS latest
        FROM aliases
    ) WHERE latest = 1 AND person != ''
), sources AS (
    SELECT chain, src, format FROM (
        SELECT
            e.chain AS chain,
            coalesce(json_extract(b.body, '$.src'), 0) AS src,
            json_extract(b.body, '$.format') AS format,
            row_number() OVER (
                PARTITION BY e.chain, coalesce(json_extract(b.body, '$.src'), 0) ORDER BY e.seq DESC
            ) AS latest
        FROM entries AS e
        JOIN bodies AS b ON b.n = e.n
        WHERE e.kind = 4 AND e.chain IS NOT NULL AND json_valid(b.body)
    ) WHERE latest = 1
), claims AS (
    SELECT
        e.log AS log,
        e.chain AS chain,
        CASE WHEN e.mid IS NOT NULL THEN coalesce(json_extract(b.body, '$.src'), 0) END AS src,
        CASE WHEN e.mid IS NOT NULL THEN coalesce(json_extract(b.body, '$.uid'), '') ELSE '' END AS uid,
        CASE WHEN e.mid IS NOT NULL THEN coalesce(json_extract(b.body, '$.by'), '') END AS name,
        count(*) AS messages,
        min(e.time_ms) AS first_ms,
        max(e.time_ms) AS last_ms
    FROM entries AS e
    JOIN bodies AS b ON b.n = e.n
    WHERE e.kind BETWEEN 16 AND 23 AND NOT e.hidden AND e.chain IS NOT NULL AND json_valid(b.body)
    GROUP BY 1, 2, 3, 4, 5
), named AS (
    SELECT
        c.log AS log,
        CASE WHEN c.src IS NULL THEN 'mlog' WHEN s.format IS NULL THEN 'unknown'
            ELSE {_family("s.format")} END AS format,
        c.uid AS uid,
        coalesce(c.name, d.person) AS name,
        c.messages AS messages,
        c.first_ms AS first_ms,
        c.last_ms AS last_ms
    FROM claims AS c
    JOIN chains AS h ON h.n = c.chain
    LEFT JOIN devices AS d ON d.id = h.device
    LEFT JOIN sources AS s ON s.chain = c.chain AND s.src = c.src
)
SELECT
    m.person AS person,
    n.format AS format,
    nullif(n.uid, '') AS uid,
    n.name AS name,
    l.title AS conversation,
    n.log AS conversation_n,
    sum(n.messages) AS messages,
    min(n.first_ms) AS first_ms,
    max(n.last_ms) AS last_ms
FROM named AS n
JOIN logs AS l ON l.n = n.log
LEFT JOIN mapped AS m ON m.format = n.format AND m.uid = n.uid
    AND (m.uid != '' OR m.name = n.name)
GROUP BY n.log, n.format, n.uid, n.name;
"""


_PEOPLE_APART: Final = _PEOPLE_VIEW.replace(
    "), named AS (",
    """), shared AS (
    SELECT person FROM devices WHERE topic != x'' GROUP BY person HAVING count(DISTINCT topic) > 1
), named AS (""",
).replace(
    "        c.uid AS uid,\n        coalesce(c.name, d.person) AS name,",
    """        CASE WHEN c.src IS NULL AND d.topic != x'' AND d.person IN (SELECT person FROM shared)
            THEN 'mlog:' || substr(lower(hex(d.topic)), 1, 16) ELSE c.uid END AS uid,
        coalesce(c.name, d.person) AS name,""",
)
"""As `mlog/api/identities.py`: where several persons have one name, each has a uid."""

_CONVERSATIONS_ENDED: Final = _CONVERSATIONS_VIEW.replace(
    " AS gaps",
    """ AS gaps,
    (SELECT nullif(m.ended, '') FROM roster AS m WHERE m.log = l.n AND m.here) AS ended""",
)

_MEMBERS: Final = f"""
-- Whose log it is: two persons may have one name.
ALTER TABLE devices ADD COLUMN topic BLOB NOT NULL DEFAULT x'';

-- Worked out of the entries, for the view of it.
CREATE TABLE roster (
    log INTEGER NOT NULL REFERENCES logs(n),
    place INTEGER NOT NULL,
    subject BLOB NOT NULL,
    topic BLOB NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    here INTEGER NOT NULL,
    history INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    ended TEXT NOT NULL,
    ended_ms INTEGER NOT NULL,
    ended_by TEXT NOT NULL,
    PRIMARY KEY (log, place)
);
{_PEOPLE_APART}
{_CONVERSATIONS_ENDED}
CREATE VIEW members AS
SELECT
    l.title AS conversation,
    l.n AS conversation_n,
    m.name AS name,
    nullif(lower(hex(m.topic)), '') AS person,
    nullif(m.role, '') AS role,
    m.here AS here,
    m.history AS history,
    nullif(m.since_ms, 0) AS since_ms,
    nullif(m.ended, '') AS ended,
    nullif(m.ended_ms, 0) AS ended_ms,
    nullif(m.ended_by, '') AS ended_by
FROM roster AS m
JOIN logs AS l ON l.n = m.log;
"""

_MESSAGES_VIEW: Final = next(view for view in _VIEWS.split(";\n") if "CREATE VIEW messages" in view)

_EXPIRED_VIEWS: Final = f"""
DROP VIEW messages;
{_MESSAGES_VIEW.replace("e.state = 2 OR", "e.state IN (2, 4) OR")};
DROP VIEW attachments;
{_ATTACHMENT_VIEWS.replace("e.state = 2 AS", "e.state IN (2, 4) AS")}
"""

_PIECES: Final = """
-- What equal chunks have in common: the bytes of a file after the 20 of group and index.
CREATE TABLE pieces (
    n INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX pieces_hash ON pieces (substr(hash, 1, 8));

ALTER TABLE bodies ADD COLUMN piece INTEGER REFERENCES pieces(n);
CREATE INDEX bodies_piece ON bodies (piece) WHERE piece IS NOT NULL;

-- Triggers, so that nothing which takes a body away can forget its piece.
CREATE TRIGGER bodies_deleted AFTER DELETE ON bodies WHEN OLD.piece IS NOT NULL BEGIN
    DELETE FROM pieces WHERE n = OLD.piece AND NOT EXISTS (SELECT 1 FROM bodies WHERE piece = OLD.piece); END;

CREATE TRIGGER bodies_changed AFTER UPDATE OF piece ON bodies
WHEN OLD.piece IS NOT NULL AND OLD.piece IS NOT NEW.piece BEGIN
    DELETE FROM pieces WHERE n = OLD.piece AND NOT EXISTS (SELECT 1 FROM bodies WHERE piece = OLD.piece); END;
"""


@MIGRATIONS()
def first_tables(db: Database) -> None:
    """Everything that version 0.1 keeps."""
    _execute(db, _TABLES)


@MIGRATIONS()
def first_views(db: Database) -> None:
    """The public views, version 1."""
    _execute(db, _VIEWS)


@MIGRATIONS()
def sync_tables(db: Database) -> None:
    """What sync with other replicas keeps: runs of chains, peers, and what they hold."""
    # SQLite checks what views name when it renames a table.
    for view in ("messages", "conversations", "gaps", "copies"):
        db.conn.execute(f"DROP VIEW {view}")
    _execute(db, _SYNC_TABLES)
    _execute(db, _VIEWS)


@MIGRATIONS()
def sync_views(db: Database) -> None:
    """The public views, version 2: who else has what is missing, and the copies at other devices."""
    _execute(db, _SYNC_VIEWS)


@MIGRATIONS()
def attachment_views(db: Database) -> None:
    """The public views, version 3: the files that belong to messages."""
    _execute(db, _ATTACHMENT_VIEWS)


@MIGRATIONS()
def people_view(db: Database) -> None:
    """The public views, version 4: who says what in all programs, and whom the names mean."""
    _execute(db, _PEOPLE_VIEW)


@MIGRATIONS()
def expired_views(db: Database) -> None:
    """The public views, version 5: what expired is erased, too."""
    _execute(db, _EXPIRED_VIEWS)


@MIGRATIONS()
def pieces(db: Database) -> None:
    """Equal pieces of files are stored once; what is stored already stays as it is."""
    _execute(db, _PIECES)


@MIGRATIONS()
def closed(db: Database) -> None:
    """Bodies that are closed to this device, or expired, are found without looking at all others."""
    _execute(db, "CREATE INDEX entries_closed ON entries (log, n) WHERE state = 5")
    _execute(db, "CREATE INDEX entries_expired ON entries (log, n) WHERE state = 4")


@MIGRATIONS()
def members(db: Database) -> None:
    """The public views, version 6: who is in which conversation; persons who have one name are told apart."""
    db.conn.execute("DROP VIEW people")
    db.conn.execute("DROP VIEW conversations")
    _execute(db, _MEMBERS)


@MIGRATIONS()
def carried(db: Database) -> None:
    """What windows carry along is found without looking at all else."""
    _execute(
        db,
        "CREATE INDEX entries_carried ON entries (log, n, week) "
        "WHERE chain IS NOT NULL AND (seq = 0 OR kind IN (1, 2, 3, 6, 7, 8, 9, 34))",
    )


def _execute(db: Database, script: str) -> None:
    # Not executescript, which would commit the migration's transaction.
    for statement in script.split(";\n"):
        if statement.strip():
            db.conn.execute(statement)
