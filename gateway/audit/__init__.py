"""The audit trail: who asked what of whom, and what came of it, in files that can be believed."""
