"""Measurements. Run by hand (`make bench`), never timed in CI: ratios between variants of one interleaved run count,
absolute figures are the machine's."""
