-- A page of accounts, the most troubled first. Every account's figure is looked at: an index on it
-- would be written with each update, for a question that people ask now and then. Documents are made
-- of the page's rows only, hence the second look at the same snapshot.
--
-- $1 flag or null, $2 place and $3 account id of the last row before this page, $4 how many, $5
-- patterns of the accounts that the reader may know of, or null.
-- `:place` is what the page is sorted by, ascending, ties by account id: a worse figure is less.
-- `:stale` stands for the flags of an account with a key in quarantine (see `stale.py`).

-- name: accounts
SELECT json_build_object(
    :figures,
    :margin_figures,
    :as_of
)::text AS document, page.place::text AS place, page.account_id
FROM (
    SELECT placed.account_id, placed.place
    FROM (
        SELECT b.account_id, (
            :place
        ) AS place
        FROM balances_view b
        LEFT JOIN margin_view m USING (account_id)
        CROSS JOIN LATERAL (
            :stale
        ) AS stale
        WHERE ($1::text IS NULL OR $1 = ANY (coalesce(stale.flags, b.flags)))
        AND ($5::text[] IS NULL OR b.account_id LIKE ANY ($5))
    ) AS placed
    WHERE (placed.place, placed.account_id) > ($2::numeric, $3::text)
    ORDER BY placed.place, placed.account_id
    LIMIT $4
) AS page
JOIN balances_view b USING (account_id)
LEFT JOIN margin_view m USING (account_id)
CROSS JOIN LATERAL (
    :stale
) AS stale
ORDER BY page.place, page.account_id;

-- name: accounts_by_id
SELECT json_build_object(
    :figures,
    :margin_figures,
    :as_of
)::text AS document, '0' AS place, b.account_id
FROM balances_view b
LEFT JOIN margin_view m USING (account_id)
CROSS JOIN LATERAL (
    :stale
) AS stale
WHERE ($1::text IS NULL OR $1 = ANY (coalesce(stale.flags, b.flags)))
AND ($5::text[] IS NULL OR b.account_id LIKE ANY ($5))
AND $2::numeric IS NOT NULL
AND b.account_id > $3::text
ORDER BY b.account_id
LIMIT $4;
