//! The tables, and how older ones become these. `user_version` counts the migrations that were applied.

use rusqlite_migration::{M, Migrations};

pub(super) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(OLDEST_FIRST);

/// One that was released is never changed; a change is a new one at the end.
const OLDEST_FIRST: &[M<'static>] = &[M::up(FIRST)];

/// - A message's place in its conversation is its `seq`. `outcome` is null while an answer is being written.
/// - `outcome`, `figures` and `notice` are JSON, as the screens get them: nothing is looked for in them.
/// - `piece` holds what there is of an answer that is being written (see [`answers`](super::answers)).
/// - `model` holds the models that people brought; a file lies at a path or behind an address. `sha256` is null until the
///   file was read once.
/// - `folded` holds the text of each question and each answer that has ended, for [`search`](super::search).
const FIRST: &str = "
    CREATE TABLE conversation (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL,
        system_prompt TEXT NOT NULL,
        temperature REAL NOT NULL,
        top_k INTEGER NOT NULL,
        top_p REAL NOT NULL,
        min_p REAL NOT NULL,
        repetition_penalty REAL NOT NULL,
        seed INTEGER,
        max_tokens INTEGER NOT NULL,
        changed_unix_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX conversation_changed ON conversation (changed_unix_ms);

    CREATE TABLE message (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        conversation INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE,
        at_unix_ms INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('question', 'answer', 'notice')),
        text TEXT NOT NULL,
        asker TEXT CHECK (kind <> 'question' OR asker IS NOT NULL),
        outcome TEXT,
        figures TEXT,
        notice TEXT CHECK (kind <> 'notice' OR notice IS NOT NULL)
    ) STRICT;
    CREATE INDEX message_conversation ON message (conversation);
    CREATE INDEX message_under_way ON message (conversation) WHERE kind = 'answer' AND outcome IS NULL;

    CREATE TABLE piece (
        message INTEGER NOT NULL REFERENCES message ON DELETE CASCADE,
        from_byte INTEGER NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (message, from_byte)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE folded (
        message INTEGER PRIMARY KEY REFERENCES message ON DELETE CASCADE,
        text TEXT NOT NULL
    ) STRICT;

    CREATE TABLE preference (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE model (
        id TEXT PRIMARY KEY,
        path TEXT CHECK ((path IS NULL) <> (address IS NULL)),
        address TEXT,
        file_name TEXT NOT NULL,
        file_bytes INTEGER NOT NULL,
        modified_ms INTEGER NOT NULL,
        sha256 TEXT
    ) STRICT, WITHOUT ROWID;
";
