"""Reading stored events in one order that never changes, however their writers overlap."""

from mesh_core.events.cursor import Cursor
from mesh_core.events.notify import EventListener, Notifier
from mesh_core.events.reader import EventReader, Page, StoredEvent

__all__ = ["Cursor", "EventListener", "EventReader", "Notifier", "Page", "StoredEvent"]
