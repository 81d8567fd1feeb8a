-- Foreign identities that files of venues name: addresses, account numbers, names. Everything else
-- says the pseudonym, which is random, and no hash of an identity is written anywhere. Without its
-- row a pseudonym says nothing; see docs/importers.md.

CREATE TABLE people (
    pseudonym   uuid        NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    venue       text        COLLATE "C" NOT NULL,
    -- As the venue writes it; NULL where its files do not say, or when it was erased.
    identity    text        COLLATE "C",
    -- The account whose files name it as their owner; NULL of a counterparty.
    account     text        COLLATE "C",
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (venue, identity),
    UNIQUE (venue, account)
);
