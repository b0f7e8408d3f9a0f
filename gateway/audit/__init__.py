"""The audit trail: what was asked of whom and what came of it, in files that show whether anybody changed them."""
