-- Figures that came later; `psm views rebuild analytics` fills them in for what was there before.

-- Of '*'/'*': deepest fall of the unit in the epoch so far, at any mark, a fraction above zero.
ALTER TABLE pnl_timeseries ADD COLUMN max_drawdown numeric;

-- There was no losing trade, so no profit factor.
ALTER TABLE trade_statistics ADD COLUMN no_losses boolean;

-- The deepest fall at any mark, below zero; tails as money of the equity at the last close.
ALTER TABLE risk_metrics
    ADD COLUMN max_drawdown_intraday numeric,
    ADD COLUMN var_hist_95_money     numeric,
    ADD COLUMN var_hist_99_money     numeric,
    ADD COLUMN es_hist_95_money      numeric,
    ADD COLUMN es_hist_99_money      numeric,
    ADD COLUMN var_param_95_money    numeric,
    ADD COLUMN var_param_99_money    numeric,
    ADD COLUMN es_param_95_money     numeric,
    ADD COLUMN es_param_99_money     numeric;
