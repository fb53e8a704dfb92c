"""Compression of WebSocket messages (permessage-deflate), each by itself as nats-server does it."""

from __future__ import annotations

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

SMALLEST = 64  # bytes; less goes out as it is, since compressing it costs more than it saves


class Deflate(PerMessageDeflate):
    """The library's extension, with messages compressed one by one, and small ones not at all.

    Control frames never concern it. The library's own takes one that comes between two fragments of a message for the
    end of that message.
    """

    def __init__(self) -> None:
        super().__init__(client_no_context_takeover=True, server_no_context_takeover=True)
        self._in_control_frame = False

    def offer(self) -> str:
        return "client_no_context_takeover; server_no_context_takeover"

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._in_control_frame = opcode.iscontrol()
        if self._in_control_frame:
            return CloseReason.PROTOCOL_ERROR if rsv.rsv1 else RsvBits(False, False, False)
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        return data if self._in_control_frame else super().frame_inbound_payload_data(proto, data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        return None if self._in_control_frame else super().frame_inbound_complete(proto, fin)

    def frame_outbound(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool
    ) -> tuple[RsvBits, bytes]:
        if opcode.iscontrol() or (fin and len(data) < SMALLEST):  # we send no fragments
            return rsv, data
        return super().frame_outbound(proto, opcode, rsv, data, fin)
