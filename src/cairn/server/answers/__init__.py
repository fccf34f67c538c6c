"""Answers that were given before, handed out again: exact repeats, and questions that mean the same."""

from cairn.server.answers.cache import AnswerCache

__all__ = ["AnswerCache"]
