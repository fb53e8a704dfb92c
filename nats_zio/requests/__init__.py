"""Requests: one subscription for the replies to all of them, one reply or many, from tasks and from threads."""

from .replies import Replies, check_request_many
from .requests import Requests

__all__ = ["Replies", "Requests", "check_request_many"]
