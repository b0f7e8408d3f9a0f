"""Apilaplas: the documentation of AIML API under another host, hence the same dialect (read 2026-11-21)."""

from dataclasses import replace

from gateway.vendors import aimlapi

VENDOR = replace(aimlapi.VENDOR, name="apilaplas", base_url="https://api.apilaplas.com")
