"""One module per outside system; library errors become PSM's own here."""
