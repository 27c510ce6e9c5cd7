"""Strategies side by side on equal budgets, several seeds each: what came out, and what of it can be believed.

`budget` says what is equal, `trials` runs a strategy on a benchmark's table, `outcomes` are what runs gave. `outcome_statistics`,
`curves`, `fronts` and `checklist` judge them; `verdicts`, `report`, `document` and `picture` show what came out.
"""
