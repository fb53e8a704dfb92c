"""The NATS client protocol without I/O: bytes in, messages and events out; commands in, bytes out.

Nothing here opens a socket, starts a task, keeps time or knows the rest of the package.
"""

from . import encoder, subjects
from .encoder import PING, PONG
from .errors import BadSubjectError, Error, HeaderError, MaxPayloadError, ProtocolError
from .events import Err, Event, Info, Ok, Ping, Pong
from .headers import Headers, HeadersInput, Status, decode_headers, decode_status, encode_headers
from .info import ServerInfo
from .message import RawMessage
from .parser import Parser
from .server_error import ErrorKind, ServerErrorInfo, classify
from .subjects import (
    MAX_CONTROL_LINE,
    check_characters,
    check_control_line,
    check_inbox_prefix,
    check_publish_subject,
    check_queue,
    check_subscribe_subject,
    checked_text,
    matches,
)
from .text import plain, plain_bytes

__all__ = [
    "MAX_CONTROL_LINE",
    "PING",
    "PONG",
    "BadSubjectError",
    "Err",
    "Error",
    "ErrorKind",
    "Event",
    "HeaderError",
    "Headers",
    "HeadersInput",
    "Info",
    "MaxPayloadError",
    "Ok",
    "Parser",
    "Ping",
    "Pong",
    "ProtocolError",
    "RawMessage",
    "ServerErrorInfo",
    "ServerInfo",
    "Status",
    "check_characters",
    "check_control_line",
    "check_inbox_prefix",
    "check_publish_subject",
    "check_queue",
    "check_subscribe_subject",
    "checked_text",
    "classify",
    "decode_headers",
    "decode_status",
    "encode_headers",
    "encoder",
    "matches",
    "plain",
    "plain_bytes",
    "subjects",
]
