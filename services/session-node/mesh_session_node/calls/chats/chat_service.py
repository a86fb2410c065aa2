"""ChatService: chats and labels, as the account's devices see them."""

from __future__ import annotations

from mesh_session_node.calls.chats.chat_reading import ChatReading
from mesh_session_node.calls.chats.chat_settings import ChatSettings
from mesh_session_node.calls.chats.history_calls import HistoryCalls
from mesh_session_node.calls.chats.label_calls import LabelCalls
from sessionmesh.v1 import chat_pb2_grpc


class ChatService(HistoryCalls, ChatSettings, ChatReading, LabelCalls, chat_pb2_grpc.ChatServiceServicer):
    """What it does not define is answered UNIMPLEMENTED by the chassis."""
