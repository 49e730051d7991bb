"""The local server as fixtures for every test of downloads."""

from serving import emodb, server

__all__ = ["emodb", "server"]
