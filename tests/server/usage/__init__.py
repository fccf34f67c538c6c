"""Tests of cairn.server.usage."""
