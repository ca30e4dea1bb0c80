"""Policies over single weights."""
