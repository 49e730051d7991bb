"""Measured claims: one command a table."""
